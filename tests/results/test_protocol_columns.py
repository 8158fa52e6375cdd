"""Other protocols' numbers in tables, CSV and MLflow: beside the official ones, where asked for."""

import csv
import json

import pytest
from run_folders import edit

from gol.config.layout import Layout
from gol.config.pipeline import read_layout
from gol.errors import UserError
from gol.results.report import write_tables
from gol.results.rows import collect
from gol.results.runs import read_run
from gol.results.tables import markdown, records, table_lines
from gol.results.tracking_content import content_hash, score_points
from gol.run_folder import RunFolder


@pytest.fixture
def scored(folders, rng):
    """Run folders with scores by AP-fixed and oLRP; folder to AP-fixed of each scoring."""
    fixed = {}
    for folder in folders:
        for path in (folder / "evaluation").glob("*.json"):
            values = rng.random(2).tolist()
            protocol = {"name": "AP-fixed", "detections_per_class": 5000, "of": "segm"}
            scores = {"segm": {"AP": values[0], "APr": values[1]}, "bbox": {"AP": 0.9, "APr": None}}
            _write(folder, path.stem, "fixed", {"protocol": protocol, "scores": scores})
            errors = {name: {"oLRP": None if name == "r" else 0.7} for name in ("all", "r")}
            olrp = {"protocol": {"name": "oLRP", "max_detections": 300}, "scores": errors}
            _write(folder, path.stem, "olrp", olrp)
            fixed[folder, path.stem] = values
    return fixed


def _write(folder, scoring, protocol, content):
    RunFolder(folder).evaluation(scoring, protocol).write_text(json.dumps(content))


def test_a_table_says_what_ap_fixed_makes_of_each_gain(folders, scored, tmp_path):
    rows = collect(folders, ["fixed", "olrp"])
    head, *lines = table_lines(rows)
    assert head[7:12] == ["AP-fixed", "gain", "APr-fixed", "oLRP", "oLRPr"]
    lines = [line for line in lines if not line[0].startswith("↳")]
    means = []
    for row, line in zip(rows, lines, strict=True):
        own = [f for f in folders if f.name.startswith(row.experiment[5:])]
        fixed = [100 * sum(scored[f, row.scoring][k] for f in own) / 3 for k in (0, 1)]
        assert [cell.split()[0] for cell in (line[7], line[9])] == [
            f"{value:.1f}" for value in fixed
        ]
        assert [cell.strip() for cell in line[10:12]] == ["70.0 ± 0.0", "–"]
        means.append((sum(row.values["AP"]) / 3, fixed[0]))
    assert lines[0][8] == ""
    for mean, line in zip(means[1:], lines[1:], strict=True):
        gains = [
            f"{round(ours - first, 1) + 0:+.1f}" for ours, first in zip(mean, means[0], strict=True)
        ]
        assert line[8].replace("−", "-") == " → ".join(gains)
    text = " ".join(markdown({"": rows}).split())
    assert "AP-fixed: detections per class 5,000; oLRP: max detections 300" in text
    assert "other protocols, × 100, which do not compare with AP" in text
    write_tables({"": rows}, tmp_path)
    first = next(csv.DictReader((tmp_path / "table.csv").open()))
    assert float(first["AP-fixed"]) == pytest.approx(means[0][1], rel=1e-5)
    assert first["oLRPr"] == "" and float(first["oLRP_std"]) == 0
    plain = [*records({"": collect(folders)})[0]]
    assert [*first][: len(plain)] == plain  # older readers find their columns where they were
    text = (tmp_path / "table.tex").read_text()
    assert r" $\to$ " in text and "→" not in text  # pdflatex has no such letter


def test_who_does_not_ask_sees_nothing_of_them(folders, scored, tmp_path):
    asked, plain = collect(folders, ["fixed"]), collect(folders)
    assert "fixed" in markdown({"": asked}) and "fixed" not in markdown({"": plain})
    assert Layout({"": ["a"]}).text == '{"tables": {"": ["a"]}, "figures": {}}'
    layout = Layout({"": ["a"]}, protocols=["fixed"])
    assert read_layout(layout.text) == layout


def test_missing_and_mixed_scores_are_refused(folders, scored):
    edit(
        RunFolder(folders[-1]).evaluation("gumbel", "fixed"),
        protocol={"name": "AP-fixed", "detections_per_class": 10_000},
    )
    with pytest.raises(UserError, match=r"were not scored alike: .*detections per class 10,000"):
        collect(folders, ["fixed"])
    RunFolder(folders[-1]).evaluation("gumbel", "fixed").unlink()
    with pytest.raises(UserError, match=r"gumbel.fixed.json is missing: `gol evaluate .* --prot"):
        collect(folders, ["fixed"])


def test_mlflow_has_them_by_name(folders, scored):
    (folder,) = [f for f in folders if f.name == "sigmoid0"]
    run = read_run(folder)
    points = {point.key: point.value for point in score_points(run)}
    assert points["fixed_segm_AP"] == scored[folder, "softmax"][0]
    assert points["fixed_segm_APr_sigmoid"] == scored[folder, "sigmoid"][1]
    assert "fixed_bbox_APr" not in points and points["olrp_all_oLRP"] == 0.7
    before = content_hash(run)
    for name in ("fixed", "olrp"):
        RunFolder(folder).evaluation("softmax", name).unlink()
    assert content_hash(run) != before
