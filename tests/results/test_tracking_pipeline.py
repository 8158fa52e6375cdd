"""Pipelines in MLflow: the table on the parent, seeds below their row."""

import json

import pytest
from mlflow_stores import content_of, files_in, runs_in
from run_folders import make_run

from gol.errors import UserError
from gol.results.difference_file import Compared
from gol.results.runs import read_runs
from gol.results.tracking import create_tracking_store, log_run
from gol.results.tracking_content import difference_points
from gol.results.tracking_pipeline import log_pipeline
from gol.results.tracking_store import connect

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def results(tmp_path):
    """A pipeline's folder: two seeds of one row, one of another, a table and a figure."""
    folder = tmp_path / "results" / "demo"
    for name, seed in (("gumbel", 0), ("gumbel", 1), ("softmax", 0)):
        make_run(folder / "runs" / name / f"seed{seed}", name, seed, lines=2, classes=6)
    (folder / "figures").mkdir()
    (folder / "figures" / "ap.png").write_bytes(b"a figure")
    (folder / "table.md").write_text("| Method | AP |\n|---|---|\n| Gumbel | 1.0 |\n")
    (folder / "report.html").write_text("<p>all of it")
    return folder


def _log(results, store, seeds=(0, 1)):
    runs = [results / "runs" / "gumbel" / f"seed{seed}" for seed in seeds]
    return log_pipeline([*runs, results / "runs/softmax/seed0"], store, "demo", results)


def _tree(store):
    """Name of each run → that of its parent, None if that is not there."""
    runs = runs_in(store)
    names = {run.info.run_id: run.info.run_name for run in runs}
    return {run.info.run_name: names.get(run.data.tags.get("mlflow.parentRunId")) for run in runs}


def test_seeds_are_below_their_row_and_rows_below_the_table(results, store):
    parent = _log(results, store)
    assert _tree(store) == {
        "demo": None,
        "demo/gumbel": "demo",
        "demo/gumbel, seed 0": "demo/gumbel",
        "demo/gumbel, seed 1": "demo/gumbel",
        "demo/softmax, seed 0": "demo",
    }
    client = connect(create_tracking_store(store))
    assert {file.path for file in client.list_artifacts(parent)} == {
        *("table.md", "figures", "report.html")
    }
    hours = client.get_run(parent).data.metrics["cpu_hours"]  # of all runs of the table
    runs = [json.loads(path.read_text()) for path in results.glob("runs/*/*/train.json")]
    assert hours == pytest.approx(sum(run["seconds"] for run in runs) / 3600)
    assert "| Gumbel | 1.0 |" in client.get_run(parent).data.tags["mlflow.note.content"]
    (row,) = [run for run in runs_in(store) if run.info.run_name == "demo/gumbel"]
    scores = [
        json.loads((results / f"runs/gumbel/seed{seed}/evaluation/gumbel.json").read_text())
        for seed in (0, 1)
    ]
    first, second = (score["segm"]["AP"] for score in scores)
    assert next(iter(row.data.metrics)) == "segm_AP"
    assert row.data.metrics["segm_AP"] == pytest.approx((first + second) / 2)
    assert row.data.metrics["segm_AP_std"] == pytest.approx(abs(first - second) / 2**0.5)


def test_differences_from_a_baseline_are_in_the_row_and_beside_the_table(results, store):
    path = results / "differences.json"

    def row(**changes):
        values = {"experiment": "demo/gumbel", "scoring": "gumbel", "label": "Gumbel", "seeds": 3}
        ends = {"difference_low": 0.5, "difference_high": 2.5, "p_corrected": 0.01, "real": True}
        return {**values, "metric": "APr", "mean": 9.0, "difference": 1.5, **ends, **changes}

    def logged(*rows):
        path.write_text(json.dumps(rows))
        runs = [results / "runs/gumbel/seed0", results / "runs/gumbel/seed1"]
        parent = log_pipeline([*runs, results / "runs/softmax/seed0"], store, "demo", results, path)
        (run,) = [run for run in runs_in(store) if run.info.run_name == "demo/gumbel"]
        metrics = {k: v for k, v in run.data.metrics.items() if k.startswith("difference")}
        return parent, metrics

    path.with_suffix(".md").write_text("| Gumbel | +1.5 |")
    others = row(scoring="softmax"), row(experiment="demo/softmax", difference=None)
    parent, found = logged(row(), *others)
    assert found == {"difference_segm_APr": 0.015, "difference_p_segm_APr": 0.01}
    files = connect(create_tracking_store(store)).list_artifacts(parent)
    assert {"differences.md", "differences.json"} <= {file.path for file in files}
    assert logged(row(), *others) == (parent, found)
    assert logged(row(experiment="demo/gumbel", difference=0.0))[1]["difference_segm_APr"] == 0
    logged(row(), row(experiment="demo/softmax_norcal", scoring="softmax+norcal"))
    with pytest.raises(UserError, match="compares demo/gol, which is none of the rows here"):
        logged(row(experiment="demo/gol"))
    parent = _log(results, store)  # without them: those of an earlier time are not shown
    files = connect(create_tracking_store(store)).list_artifacts(parent)
    assert not any("differences" in file.path for file in files)


def test_a_calibrated_row_s_difference_is_at_its_training(results):
    (run,) = read_runs([results / "runs/softmax/seed0"])
    row = {"experiment": "demo/softmax_norcal", "scoring": run.primary, "label": "x", "seeds": 3}
    ends = {"difference_low": 0.5, "difference_high": 2.5, "p_corrected": 0.01, "real": True}
    compared = [Compared(**row, metric="AP", mean=9.0, difference=1.5, **ends)]
    other = {**row, "experiment": "demo/of_another_version"}
    compared.append(Compared(**other, metric="APr", mean=9.0, difference=1.5, **ends))
    assert compared[-1].is_of(["demo/of_another_version"])
    names = {point.key for point in difference_points(run, compared)}
    assert names == {"difference_segm_AP", "difference_p_segm_AP"}


def test_again_changes_nothing_and_a_changed_table_only_the_parent(results, store, tmp_path):
    first = _log(results, store)
    content, files = content_of(store), files_in(tmp_path / "mlartifacts")
    assert _log(results, store) == first
    assert content_of(store) == content and files_in(tmp_path / "mlartifacts") == files
    seeds = {run.info.run_id for run in runs_in(store) if ", seed" in run.info.run_name}
    (results / "table.md").write_text("another")
    second = _log(results, store)
    assert second != first and _tree(store)["demo/gumbel"] == "demo"
    assert seeds <= {run.info.run_id for run in runs_in(store)}


def test_a_row_that_lost_a_seed_has_no_mean_any_more(results, store):
    _log(results, store)
    _log(results, store, seeds=(0,))
    tree = _tree(store)
    assert tree["demo/gumbel, seed 0"] == "demo" and "demo/gumbel" not in tree
    assert [*tree].count("demo") == 1 and tree["demo/gumbel, seed 1"] is None


def test_a_run_of_an_older_version_gives_way_to_one_that_is_whole(results, store):
    run = results / "runs/softmax/seed0"
    old = log_run(run, store, "demo")
    client = connect(create_tracking_store(store))
    client.set_tag(old, "gol.content", "what 0.4.0 wrote for the same files")
    _log(results, store)
    assert client.get_run(old).info.lifecycle_stage == "deleted"
    assert list(_tree(store)).count("demo/softmax, seed 0") == 1


def test_a_pipeline_without_its_table_is_one_line(results, store):
    (results / "table.md").unlink()
    with pytest.raises(UserError, match=r"no .*table\.md: write it with `gol table`"):
        _log(results, store)
