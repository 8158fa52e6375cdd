"""Run folders into real MLflow stores: complete, in order, and as often as one likes."""

import json
import random

import numpy as np
import pytest
from mlflow_stores import content_of, files_in, runs_in
from run_folders import bill, edit, edit_gol, make_run

from gol.errors import UserError
from gol.results.runs import read_curve
from gol.results.tracking import create_tracking_store, log_run
from gol.results.tracking_store import connect


def test_a_run_arrives_complete(tmp_path, store):
    salt = random.randrange(10**6)
    print("salt", salt)
    run = make_run(tmp_path / "run", "sigmoid", 3, ("softmax", "sigmoid"), salt=salt)
    edit(run / "train.json", raw_annotations={"train": "4f1c"})
    train = json.loads((run / "train.json").read_text())
    client = connect(create_tracking_store(store))
    run_id = log_run(run, store, "demo")
    logged = client.get_run(run_id)

    assert logged.info.run_name == "demo/sigmoid, seed 3"
    assert logged.info.status == "FINISHED"
    assert logged.info.start_time == round(1000 * train["started"])
    assert logged.info.end_time == round(1000 * train["finished"])
    assert logged.data.tags["gol.fingerprint"] == train["fingerprint"]
    assert logged.data.tags["version.torch"] == train["versions"]["torch"]
    assert logged.data.tags["raw_annotations.train"] == "4f1c"
    axes = json.loads((run / "config.json").read_text())["gol"]["axes"]
    others = {"seed": "3", "scoring": "softmax", "label": "Sigmoid", "experiment": "demo/sigmoid"}
    assert logged.data.params.items() >= {**axes, **others}.items()
    assert len(logged.data.params) <= 24

    curve = read_curve(run)
    for key in ("loss", "loss_cls", "loss_bbox", "loss_mask", "lr", "grad_norm"):
        history = client.get_metric_history(run_id, f"train/{key}")
        assert [(m.step, m.value, m.timestamp) for m in history] == [
            (p["iteration"], p[key], round(1000 * p["time"])) for p in curve
        ]
    for scoring, suffix in (("softmax", ""), ("sigmoid", "_sigmoid")):
        result = json.loads((run / f"evaluation/{scoring}.json").read_text())
        for kind in ("segm", "bbox"):
            for name, value in result[kind].items():
                assert logged.data.metrics.get(f"{kind}_{name}{suffix}") == value
    artifacts = tmp_path / "mlartifacts" / "demo" / run_id / "artifacts"
    assert (artifacts / "config.json").read_bytes() == (run / "config.json").read_bytes()
    images = [path for path in artifacts.rglob("*.png") if path.read_bytes()[:4] == b"\x89PNG"]
    assert len(images) == 3
    assert {f.path for f in client.list_artifacts(run_id)} >= {"config.json", "per_class.json"}


def test_classes_are_one_table_and_no_metrics(tmp_path, store, undrawn, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{store}")  # load_table asks this one
    run = make_run(tmp_path / "run", scorings=("softmax", "sigmoid"), classes=1203, lines=3)
    client = connect(create_tracking_store(store))
    run_id = log_run(run, store, "demo")
    assert len(client.get_run(run_id).data.metrics) < 60
    experiment_id = client.get_experiment_by_name("demo").experiment_id
    table = client.load_table(experiment_id, "per_class.json", run_ids=[run_id])
    assert len(table) == 1203
    for scoring, suffix in (("softmax", ""), ("sigmoid", "_sigmoid")):
        classes = json.loads((run / f"evaluation/{scoring}.json").read_text())["per_class"]
        for key in ("segm_AP", "bbox_AP"):
            expected = np.array([entry[key] for entry in classes], dtype=float)
            np.testing.assert_allclose(table[key + suffix], expected, rtol=1e-12)


def test_again_changes_nothing(tmp_path, store, undrawn):
    run = make_run(tmp_path / "run", scorings=("softmax", "sigmoid"))
    first = log_run(run, store, "demo")
    dump, files = content_of(store), files_in(tmp_path / "mlartifacts")
    assert len(dump["metrics"]) > 400
    (tmp_path / "mlartifacts" / "demo" / first / "artifacts" / "per_class.json").unlink()
    assert log_run(run, f"sqlite:///{store}", "demo") == first
    assert content_of(store) == dump
    assert files_in(tmp_path / "mlartifacts") == files


def test_seeds_experiments_and_pipelines_are_runs_of_their_own(tmp_path, store, undrawn):
    folders = [make_run(tmp_path / f"{n}{s}", n, s, lines=2) for n in "ab" for s in (0, 1)]
    ids = {log_run(folder, store, name) for folder in folders for name in ("demo", "quick")}
    assert len(ids) == 8
    assert len(runs_in(store, "demo")) == len(runs_in(store, "quick")) == 4


def test_a_changed_evaluation_takes_the_place_of_the_old_one(tmp_path, store, undrawn):
    run = make_run(tmp_path / "run", lines=3)
    old = log_run(run, store, "demo")
    path = run / "evaluation" / "gumbel.json"
    content = json.loads(path.read_text())
    content["segm"]["AP"] = 0.0123  # lower than before: MLflow alone would keep showing the maximum
    path.write_text(json.dumps(content))
    new = log_run(run, store, "demo")
    assert new != old
    (shown,) = runs_in(store)
    assert shown.info.run_id == new
    assert shown.data.metrics["segm_AP"] == 0.0123
    assert connect(create_tracking_store(store)).get_run(old).info.lifecycle_stage == "deleted"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: (run / "config.json").unlink(),
        lambda run: (run / "metrics.jsonl").unlink(),
        lambda run: (run / "train.json").write_text('{"iterations": 10'),
        lambda run: (run / "evaluation" / "gumbel.json").write_text('{"protocol": {'),
    ],
)
def test_an_incomplete_run_leaves_the_store_alone(tmp_path, store, spoil):
    run = make_run(tmp_path / "run")
    spoil(run)
    before = store.read_bytes()
    with pytest.raises(UserError) as caught:
        log_run(run, store, "demo")
    assert "\n" not in str(caught.value)
    assert str(run) in str(caught.value)
    assert store.read_bytes() == before
    assert not (tmp_path / "mlartifacts").exists()


def test_a_truncated_last_line_is_no_error(tmp_path, store, undrawn):
    run = make_run(tmp_path / "run", lines=5)
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"time": 1700000000.1, "iterat')
    logged = connect(create_tracking_store(store)).get_run(log_run(run, store, "demo"))
    assert logged.data.metrics["train/loss"] == read_curve(run)[-1]["loss"]


def test_losses_that_are_no_number_arrive(tmp_path, store):
    run = make_run(tmp_path / "run", lines=2)
    with open(run / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"time": 1800000000.0, "iteration": 99, "loss": NaN, "grad_norm": Infinity}\n')
    run_id = log_run(run, store, "demo")
    dump = content_of(store)
    loss = connect(create_tracking_store(store)).get_run(run_id).data.metrics["train/loss"]
    assert loss != loss
    assert log_run(run, store, "demo") == run_id
    assert content_of(store) == dump


def test_a_name_is_a_folder_beside_the_store_and_a_password_stays_out_of_it(
    store, undrawn, tmp_path
):
    run = make_run(tmp_path / "run")
    edit_gol(run, weights={"url": "https://me:s3cret@host/x.pth?token=s3cret"})
    content = json.loads((run / "config.json").read_text())
    identity = log_run(run, store, "My runs, 10 %")
    (copied,) = (tmp_path / "mlartifacts" / "My runs, 10 %" / identity).rglob("config.json")
    content["gol"]["weights"]["url"] = "https://***@host/x.pth?token=***"
    assert json.loads(copied.read_text()) == content


@pytest.mark.parametrize("name", ["demo/../../x y", "demo/\x1b[31m", "demo/a\nb", ""])
def test_a_config_names_an_experiment_and_nothing_else(name, store, tmp_path):
    run = make_run(tmp_path / "run")
    edit_gol(run, experiment=name)
    with pytest.raises(UserError, match=r"'gol\.experiment' must be the name of an exp"):
        log_run(run, store, "demo")


def test_what_a_person_sorts_and_looks_for_is_there(tmp_path, store, undrawn):
    run = make_run(tmp_path / "run", lines=2)
    config = json.loads((run / "config.json").read_text())
    scales = {"type": "Resize", "img_scale": [[1333, 640], [1333, 800]]}
    train = {"type": "Repeats", "dataset": {"ann_file": "a/train.store", "pipeline": [scales]}}
    config["data"] = {"train": train, "test": {"ann_file": "a/val.store"}}
    config["runner"] = {"max_epochs": 12}
    config["gol"] |= {"base_batch": 16, "global_batch": 8}
    (run / "config.json").write_text(json.dumps(config))
    (run / "overrides.json").write_text('{"gol.global_batch": 8, "optimizer.lr": "https://u:p@h/"}')
    source = {"user": "me", "commit": "5d667cb", "dirty": "true"}
    digests = {"train": "4f" * 32, "val": "1c" * 32}
    edit(run / "train.json", raw_annotations=digests, source=source)
    bill(run / "cost.json", {"seconds": 900.0, "energy_kwh": 0.5, "memory_gb": 30.0})
    found = {"seconds": 90.0, "energy_kwh": 0.25, "memory_gb": 9.0, "images_per_second": 50.0}
    bill(run / "detections/gumbel.cost.json", found)
    client = connect(create_tracking_store(store))
    logged = client.get_run(log_run(run, store, "demo"))

    wanted = {"learning_rate": "0.01", "epochs": "12", "batch": "8", "seed": "0"}
    wanted |= {"image_size": "1333x640, 1333x800", "set.gol.global_batch": "8"}
    assert logged.data.params.items() >= wanted.items()
    assert logged.data.params["set.optimizer.lr"] == "https://***@h/"
    assert list(logged.data.params)[:3] == ["classifier", "seed", "learning_rate"]
    assert next(iter(logged.data.metrics)) == "segm_AP"
    costs = {"gpu_hours": 1.1, "energy_kwh": 0.75, "peak_memory_gb": 30.0}
    costs["detection_images_per_second"] = 50.0
    assert {name: logged.data.metrics[name] for name in costs} == pytest.approx(costs)
    tags = logged.data.tags
    assert (tags["mlflow.user"], tags["mlflow.source.git.commit"]) == ("me", "5d667cb")
    assert tags["gol.git.dirty"] == "true" and tags["mlflow.source.name"] == "gol train"
    assert "**Gumbel**, seed 0" in tags["mlflow.note.content"]
    assert "\nCost: 1.10 GPU-hours and 0.750 kWh\n" in tags["mlflow.note.content"]
    inputs = [
        (i.dataset.name, i.dataset.digest, i.tags[0].value) for i in logged.inputs.dataset_inputs
    ]
    assert sorted(inputs) == [
        ("demo train", "4f" * 6, "training"),
        ("demo val", "1c" * 6, "validation"),
    ]
    (path,) = (tmp_path / "mlartifacts").rglob("per_class.json")
    columns = json.loads(path.read_text())["columns"]
    assert columns == ["name", "segm_AP", "bbox_AP", "frequency", "image_count", "id"]
    assert "u:p" not in next((tmp_path / "mlartifacts").rglob("overrides.json")).read_text()
