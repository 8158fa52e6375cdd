"""Calibrations are further rows of the run that they calibrate, and train nothing."""

import json
import random

import matplotlib
import pytest
from run_folders import bill, edit, evaluation, make_run

from gol.config.experiments import calibrated_as, trained_as
from gol.config.layout import Layout
from gol.config.pipeline import read_pipeline
from gol.errors import UserError
from gol.files import write_json
from gol.files.digests import seal_path
from gol.results.plots import plot_curves
from gol.results.report import select
from gol.results.rows import collect
from gol.results.runs import read_run
from gol.results.tables import markdown
from gol.results.tracking_content import content_hash, score_points, write_artifacts
from gol.run_folder import RunFolder


@pytest.fixture
def run(tmp_path):
    """A run of the softmax, scored again by two calibrations and by none."""
    folder = make_run(tmp_path / "softmax", "softmax", scorings=("softmax",))
    for number, method in enumerate(("norcal", "logit_adjust", "none")):
        result = evaluation(random.Random(number), 40)
        path = RunFolder(folder).evaluation(f"softmax+{method}")
        path.write_text(json.dumps(result))
    path = RunFolder(folder).calibration("softmax+logit_adjust")
    path.parent.mkdir()
    path.write_text(json.dumps({"strength": 0.25}))
    return folder


def test_a_listed_calibration_is_an_experiment_and_another_a_row_below_its_run(run):
    rows = collect([run])
    assert [(row.experiment, row.label, row.primary) for row in rows] == [
        ("demo/softmax", "Softmax", True),
        ("demo/softmax", "Softmax, logit adjustment 0.25", False),
        ("demo/softmax_norcal", "Softmax, NorCal", True),
    ]
    assert {row.trained_as for row in rows} == {"demo/softmax"}
    tables, _ = select(rows, Layout({"": ["demo/softmax_norcal"]}))
    assert [row.scoring for row in tables[""]] == ["softmax+norcal"]


def test_at_another_strength_a_listed_calibration_is_not_the_experiment(run, tmp_path):
    """A strength that was fitted for each seed is one row, which says from where to where."""
    other = make_run(tmp_path / "other", "softmax", 1, scorings=("softmax",))
    (other / "evaluation/softmax+norcal.json").write_text(
        (run / "evaluation/softmax+norcal.json").read_text()
    )
    (other / "calibration").mkdir()
    records = [RunFolder(folder).calibration("softmax+norcal") for folder in (run, other)]
    for record in records:
        record.write_text(json.dumps({"strength": 0.5}))
    assert collect([run, other])[-1].label == "Softmax, NorCal"
    for record, strength in zip(records, (0.3, 0.75), strict=True):
        record.write_text(json.dumps({"strength": strength}))
    (row,) = (row for row in collect([run, other]) if row.scoring == "softmax+norcal")
    assert row.label == "Softmax, NorCal 0.3 to 0.75"
    assert (row.experiment, row.primary, row.seeds) == ("demo/softmax", False, (0, 1))


def test_mlflow_has_the_strength(run, tmp_path, undrawn):
    before = content_hash(read_run(run))
    record = RunFolder(run).calibration("softmax+logit_adjust")
    write_artifacts(read_run(run), tmp_path / "artifacts")
    logged = tmp_path / "artifacts" / record.relative_to(run)
    assert json.loads(logged.read_text()) == {"strength": 0.25}
    record.write_text(json.dumps({"strength": 0.75}))
    assert content_hash(read_run(run)) != before


def test_the_bill_names_the_training_and_counts_all_of_its_seeds(run, tmp_path):
    """Where one seed of two was calibrated by hand, whose row is the table's first."""
    other = make_run(tmp_path / "other", "softmax", 1, scorings=("softmax",))
    rows = collect([run, other])
    tables, _ = select(rows, Layout({"T": ["demo/softmax_norcal", "demo/softmax"]}))
    lines = [line.split("|")[1:3] for line in markdown(tables).split("## Cost")[1].splitlines()]
    assert [[cell.strip() for cell in line] for line in lines if line][2:] == [
        ["Softmax", "2"],
        ["↳ detection, scored with softmax+norcal", "1"],
        ["↳ detection, scored with softmax", "2"],
        ["↳ detection, scored with softmax+logit_adjust", "1"],
        ["All", "2"],
    ]


@pytest.mark.parametrize("names", [["softmax_norcal"], ["softmax_norcal", "softmax"]])
def test_the_curve_of_a_calibrated_run_is_that_of_its_training_and_drawn_once(names, run, tmp_path):
    tables, _ = select(collect([run]), Layout({"": [f"demo/{name}" for name in names]}))
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        plot_curves([run], tables, tmp_path / "curves.svg")
    assert (tmp_path / "curves.svg").read_text().count(">Softmax<") == 1


def test_a_pipeline_trains_a_calibrated_experiment_not_twice():
    names = ["demo/softmax_norcal", "demo/softmax", "demo/softmax_fracal"]
    pipeline = read_pipeline({"name": "p", "experiments": names})
    assert pipeline.trainings == ["demo/softmax"]
    assert pipeline.runs("demo/softmax_norcal") == ["results/p/runs/demo/softmax/seed0"]
    assert [pipeline.scorings(name) for name in names] == [
        ["softmax+norcal"],
        ["softmax"],
        ["softmax+fracal"],
    ]
    assert trained_as("demo/gol_fracal") == "demo/gol" and trained_as("demo/gol") == "demo/gol"
    assert calibrated_as("demo/gol", "fracal") == "demo/gol_fracal"
    assert calibrated_as("demo/gol", "norcal") is None and calibrated_as("demo/gol", "") is None


def test_calibrated_rows_of_a_pipeline_are_scored_on_the_rows_without():
    names = ["demo/softmax", "demo/softmax_norcal"]
    variants = {"slow": {"optimizer.lr": 0.02}, "fast": {"optimizer.lr": 0.08}}
    pipeline = read_pipeline({"name": "p", "experiments": names, "variants": variants})
    assert pipeline.trainings == ["demo/softmax@slow", "demo/softmax@fast"]
    alone = {"name": "p", "experiments": [{"demo/softmax_norcal@x": {"set": variants["slow"]}}]}
    pipeline = read_pipeline(alone)
    assert pipeline.trainings == ["demo/softmax@x"]
    assert pipeline.overrides("demo/softmax@x")["optimizer.lr"] == 0.02
    assert pipeline.scorings("demo/softmax_norcal@x") == ["softmax+norcal"]
    assert calibrated_as("demo/softmax@x", "norcal") == "demo/softmax_norcal@x"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"set": {"optimizer.lr": 0.03}}, "runs of demo/softmax@x: give both the same set"),
        (
            {"set": {"optimizer.lr": 0.02}, "label": "L"},
            "of demo/softmax@x: give that one the label",
        ),
    ],
)
def test_a_calibrated_row_with_settings_of_its_own_is_refused(row, message):
    plain = {"demo/softmax@x": {"set": {"optimizer.lr": 0.02}, "label": "Slow"}}
    with pytest.raises(UserError, match=message):
        read_pipeline({"name": "p", "experiments": [plain, {"demo/softmax_norcal@x": row}]})


@pytest.mark.parametrize("label", ["Softmax, x", "Slow <b>"])
def test_a_calibrated_row_is_called_as_its_training_and_the_calibration(run, label):
    content = json.loads((run / "config.json").read_text())
    edit(
        run / "config.json", gol={**content["gol"], "experiment": "demo/softmax@x", "label": label}
    )
    row = next(row for row in collect([run]) if row.scoring == "softmax+norcal")
    wanted = "Softmax, NorCal, x" if label == "Softmax, x" else "Slow <b>, NorCal"
    assert (row.experiment, row.label) == ("demo/softmax_norcal@x", wanted)
    assert row.trained_as == "demo/softmax@x" and row.primary


def test_another_training_removes_what_was_calibrated_or_made_beside(run):
    folder = RunFolder(run)
    (run / "kept" / "softmax.val").mkdir(parents=True)
    assert folder.calibrated() == ["softmax+logit_adjust", "softmax+norcal"]
    usual, best = folder.detections("softmax"), folder.detections("softmax", per_class=True)
    plain = {usual, folder.evaluation("softmax")}
    found = [folder.detections(f"softmax+{method}") for method in ("norcal", "none", "logn")]
    found += [usual, best, folder.cost_of(usual), folder.cost_of(best), folder.cost_of(found[0])]
    for path in (*found, folder.evaluation("softmax", "fixed")):
        write_json(path, [], writer="gol detect")
    folder.clear()
    assert not (run / "kept").exists()
    left = {path for name in ("detections", "evaluation") for path in (run / name).iterdir()}
    assert left == plain | {seal_path(usual)}


def test_mlflow_takes_the_names_of_all_that_is_calibrated(run):
    folder = RunFolder(run)
    detected = {"seconds": 0.0, "images_per_second": 7.0}
    bill(folder.cost_of(folder.detections("softmax+norcal")), detected)
    points = {point.key: point.value for point in score_points(read_run(run))}
    assert points["detection_images_per_second_softmax_norcal"] == 7.0
    assert "segm_AP_softmax_norcal" in points and not [key for key in points if "+" in key]


def test_what_was_calibrated_by_hand_needs_no_other_protocol(run):
    folder = RunFolder(run)
    scores = {"protocol": {"name": "AP-fixed"}, "scores": {"segm": {"AP": 0.5, "APr": 0.25}}}
    folder.evaluation("softmax", "fixed").write_text(json.dumps(scores))
    for shown in ([], ["demo/softmax"]):
        rows = collect([run], ["fixed"], shown)
        cells = [row.beside["AP-fixed"] for row in rows]
        assert cells == [(50.0,), (None,), (None,)]
        assert "AP-fixed" in markdown({"": rows})
    with pytest.raises(UserError, match=r"softmax\+norcal.fixed.json is missing"):
        collect([run], ["fixed"], ["demo/softmax", "demo/softmax_norcal"])
    folder.evaluation("softmax+norcal", "fixed").write_text(json.dumps(scores))
    assert collect([run], ["fixed"])[2].beside["AP-fixed"] == (50.0,)
