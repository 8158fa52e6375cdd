"""`--json`: one JSON document with stable keys on stdout, and nothing else there."""

import json
import random

import pytest
import yaml
from processes import Process
from run_folders import make_run

import gol
from gol.cli import main
from gol.config.axes import axis_values
from gol.config.resolve import load_config, save_config


@pytest.fixture
def call(capfd):
    """Runs a verb with --json; returns exit code and document. Prints of subprocesses count too."""

    def run(*arguments):
        capfd.readouterr()
        code = main([*map(str, arguments), "--json"])
        return code, json.loads(capfd.readouterr().out)

    return run


def test_experiments(call):
    code, entries = call("experiments")
    assert code == 0 and [entry["name"] for entry in entries] == gol.experiments()
    keys = {"name", "label", "axes", "compare", "published", "published_note"}
    assert {frozenset(entry) for entry in entries} == {frozenset(keys)}


def test_downloads(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, entries = call("download")
    assert code == 0 and {frozenset(entry) for entry in entries} == {
        frozenset({"name", "there", "bytes", "makes"})
    }
    assert not any(entry["there"] for entry in entries)
    archive = next(entry for entry in entries if entry["name"] == "lvis_v1_val")
    assert archive["makes"].endswith("lvis_v1_val.json") and archive["bytes"] > 10**7
    path = tmp_path / archive["makes"]
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    assert call("download", "lvis_v1_val") == (0, [{**archive, "there": True}])


def test_weights(call, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    code, entries = call("weights")
    assert code == 0 and {"r50", "r101"} <= {entry["name"] for entry in entries}
    for entry in entries:
        where = "page" if entry["name"].startswith("se_r50") else "url"
        assert entry.keys() == {"name", "there", where, "path"}
        assert entry["path"].startswith(str(tmp_path)) and entry["there"] is False


def test_pretrained(call):
    code, entries = call("pretrained")
    assert code == 0 and len(entries) == 3
    for entry in entries:
        assert entry.keys() == {"name", "experiment", "url", "published"}
        assert entry["experiment"] in gol.experiments() and entry["published"]["AP"] > 20


def test_preprocess_config_plan_and_doctor(call, demo_data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {
        split: {
            "annotations": str(demo_data / f"raw/{split}.json"),
            "images": str(demo_data / f"raw/{split}"),
        }
        for split in ("train", "val")
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**axis_values("dataset")["own"], **files}))
    code, summary = call("preprocess", "--dataset", "mine.yaml", "--out", "results/m/data/mine")
    written = json.loads((tmp_path / "results/m/data/mine/summary.json").read_text())
    assert code == 0 and summary == written and summary["train"]["images"] == 60

    code, resolved = call("config", "demo/gol", "--data", demo_data, "--seed", 3)
    assert code == 0 and resolved["seed"] == resolved["gol"]["seed"] == 3
    code, saved = call("config", "demo/gol", "--data", demo_data, "--seed", 3, "--run", "run")
    assert code == 0 and saved == resolved == json.loads((tmp_path / "run/config.json").read_text())
    assert load_config(tmp_path / "run").gol.experiment == "demo/gol"

    pipeline = {"name": "m", "dataset": "mine.yaml", "experiments": ["demo/gumbel"], "seeds": 2}
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    code, plan = call("plan", "pipeline.yaml", "--throughput", 7, "--gpus", 3)
    images = 2 * plan["experiments"][0]["epochs"] * 60
    assert code == 0 and plan["images"] == {"least": images, "most": images}
    assert plan["gpu_hours"]["most"] == pytest.approx(images / 7 / 3600)
    assert plan["days"]["least"] == pytest.approx(images / 7 / 3600 / 24 / 3)
    assert plan["runs"] == 2 and plan["gpus"] == 3 and plan["unprepared"] == []
    assert plan.keys() == {
        *("experiments", "runs", "images", "gpu_hours", "tables", "gpus", "days", "disk_bytes"),
        *("download_bytes", "downloads_of_unknown_size", "unprepared", "spent"),
    }
    assert plan["experiments"][0].keys() == {
        *("experiment", "seeds", "images_per_epoch", "epochs", "iterations", "images_per_second"),
        *("assumed", "device", "gpu_hours", "parameters", "disk_bytes"),
    }

    code, checks = call("doctor", "--dataset", "mine.yaml", "--store", tmp_path / "m.db")
    assert {frozenset(check) for check in checks} == {frozenset({"status", "name", "text"})}
    assert [check["status"] for check in checks if check["name"].startswith("data")] == ["ok"] * 2
    assert code == any(check["status"] == "missing" for check in checks)


@pytest.mark.slow
def test_training_detection_and_scores(call, tiny_data, tmp_path):
    overrides = {"runner.max_epochs": 1, "data.workers_per_gpu": 0}
    run, out = tmp_path / "run", tmp_path / "d.json"
    save_config(gol.load_experiment("demo/gumbel", overrides, tiny_data), run)
    code, summary = call("train", run, "--device", "cpu")
    assert code == 0 and summary == json.loads((run / "train.json").read_text())
    assert call("launch", run) == (0, summary)  # it is done

    code, found = call("detect", run, "--out", out, "--device", "cpu")
    assert code == 0 and found == {"out": str(out), "detections": len(json.loads(out.read_text()))}
    launched = tmp_path / "launched.json"
    assert call("launch", run, "--detect", launched, "--device", "cpu") == (
        0,
        {"out": str(launched)},
    )
    assert json.loads(launched.read_text()) == json.loads(out.read_text())

    code, scores = call("evaluate", tiny_data / "val.json", out, "--out", tmp_path / "s.json")
    assert code == 0 and scores == json.loads((tmp_path / "s.json").read_text())
    assert {"protocol", "engine", "images", "detections", "segm", "bbox", "per_class"} == {*scores}


def test_table_and_track(call, store, undrawn, tmp_path):
    published = {"AP": 16.4, "APr": 0.8, "APc": 12.7, "APf": 27.3, "APb": 17.2}
    salt = random.randrange(10**6)
    runs = [
        make_run(tmp_path / f"{name}{seed}", name, seed, published=numbers, salt=salt)
        for name, numbers in (("gumbel", published), ("softmax", None))
        for seed in (0, 1)
    ]
    code, rows = call("table", *runs, "--out", tmp_path / "out")
    assert code == 0 and [(row["experiment"], row["seeds"]) for row in rows] == [
        ("demo/gumbel", 2),
        ("demo/softmax", 2),
    ]
    scores = [json.loads((run / "evaluation/gumbel.json").read_text()) for run in runs[:2]]
    mean = 50 * sum(score["segm"]["AP"] for score in scores)
    assert rows[0]["AP"] == pytest.approx(mean)
    assert rows[0]["AP_difference"] == pytest.approx(mean - 16.4)
    assert rows[1]["AP_published"] is rows[1]["AP_difference"] is None
    with open(tmp_path / "out/table.csv", encoding="utf-8") as file:
        assert file.readline().strip().split(",") == list(rows[0])

    arguments = ["track", runs[0], "--store", store, "--name", "demo"]
    code, first = call(*arguments)
    assert code == 0 and first.keys() == {"run_id", "run_ids", "page"}
    assert call(*arguments) == (0, first)


@pytest.mark.slow
def test_a_failure_leaves_stdout_empty(tmp_path):
    command = ("-m", "gol", "train", tmp_path / "none", "--json")
    code, out, errors = Process(*command).finish()
    assert (code, out) == (2, "") and len(errors.splitlines()) == 1
