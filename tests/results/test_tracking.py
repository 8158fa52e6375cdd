"""Run folders into real MLflow stores: complete, idempotent, and several at once."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from run_folders import edit, make_run

from gol.errors import UserError
from gol.results.runs import read_curve
from gol.results.tracking import create_tracking_store, log_run
from gol.results.tracking_store import connect, follow_move, patiently, tracking_errors

LOG = "import sys; from gol.results.tracking import log_run; print(log_run(*sys.argv[1:]))"
# Imports before the fork, so that the processes reach the store at the same moment.
AT_ONCE = """
import json, multiprocessing, os, sys
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import mlflow, gol.results.plots, matplotlib.figure, mlflow.store.tracking.sqlalchemy_store
from gol.results.tracking import log_run

def work(folder):
    barrier.wait()
    return log_run(folder, store, "demo")

_, store, *folders = sys.argv
context = multiprocessing.get_context("fork")
barrier = context.Barrier(len(folders))
with context.Pool(len(folders)) as pool:
    print(json.dumps(pool.map(work, folders, chunksize=1)))
"""


@pytest.fixture(scope="module")
def empty_store(made_once):
    """A fresh store; making one takes seconds, copying it does not."""
    folder = made_once("store", lambda folder: create_tracking_store(folder / "mlflow.db"))
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def store(empty_store, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_store)
    return path


def _dump(path, without_ids=False):
    """Every table's rows; without the ids that MLflow draws where two stores are compared."""
    with sqlite3.connect(path) as database:
        tables = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        dump = {
            name: sorted(map(repr, database.execute(f"SELECT * FROM {name}"))) for name in tables
        }
        if without_ids:
            query = "SELECT key, value, timestamp, step, is_nan FROM {} ORDER BY 1, 2, 3, 4"
            dump = {
                name: list(database.execute(query.format(name)))
                for name in ("metrics", "latest_metrics")
            }
            dump["params"] = list(database.execute("SELECT key, value FROM params ORDER BY 1"))
            dump["tags"] = list(database.execute("SELECT key, value FROM tags ORDER BY 1"))
            columns = "name, status, start_time, end_time, lifecycle_stage"
            dump["runs"] = list(database.execute(f"SELECT {columns} FROM runs ORDER BY 1"))
    return dump


def _files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def _runs(store, name="demo"):
    client = connect(create_tracking_store(store))
    return client.search_runs([client.get_experiment_by_name(name).experiment_id])


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
    assert len(logged.data.params) <= 16

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


def test_classes_are_one_table_and_no_metrics(tmp_path, store, monkeypatch):
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


def test_again_changes_nothing(tmp_path, store):
    run = make_run(tmp_path / "run", scorings=("softmax", "sigmoid"))
    first = log_run(run, store, "demo")
    dump, files = _dump(store), _files(tmp_path / "mlartifacts")
    assert len(dump["metrics"]) > 400
    (tmp_path / "mlartifacts" / "demo" / first / "artifacts" / "per_class.json").unlink()
    assert log_run(run, f"sqlite:///{store}", "demo") == first
    assert _dump(store) == dump
    assert _files(tmp_path / "mlartifacts") == files


def test_seeds_experiments_and_pipelines_are_runs_of_their_own(tmp_path, store):
    folders = [make_run(tmp_path / f"{n}{s}", n, s, lines=2) for n in "ab" for s in (0, 1)]
    ids = {log_run(folder, store, name) for folder in folders for name in ("demo", "quick")}
    assert len(ids) == 8
    assert len(_runs(store, "demo")) == len(_runs(store, "quick")) == 4


def test_a_changed_evaluation_takes_the_place_of_the_old_one(tmp_path, store):
    run = make_run(tmp_path / "run", lines=3)
    old = log_run(run, store, "demo")
    path = run / "evaluation" / "gumbel.json"
    content = json.loads(path.read_text())
    content["segm"]["AP"] = 0.0123  # lower than before: MLflow alone would keep showing the maximum
    path.write_text(json.dumps(content))
    new = log_run(run, store, "demo")
    assert new != old
    (shown,) = _runs(store)
    assert shown.info.run_id == new
    assert shown.data.metrics["segm_AP"] == 0.0123
    assert connect(create_tracking_store(store)).get_run(old).info.lifecycle_stage == "deleted"


@pytest.mark.slow
def test_several_processes_fill_a_store_that_is_not_there_yet(tmp_path):
    folders = [make_run(tmp_path / f"run{seed}", seed=seed, lines=20) for seed in range(4)]
    store = tmp_path / "new" / "mlflow.db"
    command = [sys.executable, "-c", AT_ONCE, store, *folders, *folders[:2]]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (result.returncode, result.stderr) == (0, "")
    ids = json.loads(result.stdout)
    assert len(ids) == 6
    assert ids[4:] == ids[:2]
    assert {run.info.run_id for run in _runs(store)} == set(ids)
    assert len(set(ids)) == 4
    assert all(run.info.status == "FINISHED" for run in _runs(store))


@pytest.mark.slow
def test_a_killed_ingestion_is_completed(tmp_path, empty_store):
    run = make_run(tmp_path / "run", lines=1200)
    stores = [tmp_path / name / "mlflow.db" for name in ("killed", "whole")]
    for store in stores:
        store.parent.mkdir()
        store.write_bytes(empty_store)
    process = subprocess.Popen([sys.executable, "-c", LOG, str(run), str(stores[0]), "demo"])
    with sqlite3.connect(stores[0], timeout=60) as database:
        while not database.execute("SELECT COUNT(*) FROM metrics").fetchone()[0]:
            assert process.poll() is None
            time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    partial = _dump(stores[0], without_ids=True)
    for store in stores:
        log_run(run, store, "demo")
    whole = _dump(stores[1], without_ids=True)
    assert len(partial["metrics"]) < len(whole["metrics"])
    assert _dump(stores[0], without_ids=True) == whole


def test_waits_for_another_program_that_is_writing(tmp_path):
    path = tmp_path / "some.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE t (x)")
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    attempts = []

    def insert():
        attempts.append(time.monotonic())
        with sqlite3.connect(path, timeout=0) as database:
            return database.execute("INSERT INTO t VALUES (1)").rowcount

    threading.Timer(0.5, other.execute, ["COMMIT"]).start()
    assert patiently(insert) == 1
    assert len(attempts) > 1
    other.close()


def test_other_errors_are_not_tried_again():
    attempts = []

    def fail():
        attempts.append(1)
        raise ValueError("something else")

    with pytest.raises(ValueError, match="something else"):
        patiently(fail)
    assert len(attempts) == 1


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


def test_a_truncated_last_line_is_no_error(tmp_path, store):
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
    dump = _dump(store)
    loss = connect(create_tracking_store(store)).get_run(run_id).data.metrics["train/loss"]
    assert loss != loss
    assert log_run(run, store, "demo") == run_id
    assert _dump(store) == dump


def test_stores_that_cannot_be_used_are_one_line(tmp_path, empty_store):
    text = tmp_path / "notes.txt"
    text.write_text("no database " * 100)
    moved = tmp_path / "moved"
    moved.mkdir()
    original = tmp_path / "original"
    original.mkdir()
    (original / "mlflow.db").write_bytes(empty_store)
    run = make_run(tmp_path / "run", lines=2)
    log_run(run, original / "mlflow.db", "demo")
    (original / "mlflow.db").rename(moved / "mlflow.db")
    cases = {
        tmp_path: "allowed: a sqlite file",
        "file:mlruns": "allowed: a sqlite file",
        text: "file is not a database",
        text / "mlflow.db": "File exists",
        moved / "mlflow.db": "was the store moved",
    }
    for store, message in cases.items():
        with pytest.raises(UserError, match=message) as caught:
            log_run(run, store, "demo")
        assert "\n" not in str(caught.value)
    assert text.read_text() == "no database " * 100


def test_a_store_that_was_moved_with_its_artifacts_finds_them(tmp_path, empty_store):
    from mlflow import artifacts

    before, now = tmp_path / "before", tmp_path / "a new place"
    before.mkdir()
    (before / "mlflow.db").write_bytes(empty_store)
    run = make_run(tmp_path / "run", lines=2)
    identity = log_run(run, before / "mlflow.db", "demo")
    before.rename(now)
    uri = create_tracking_store(now / "mlflow.db")
    found = artifacts.download_artifacts(run_id=identity, tracking_uri=uri)
    assert (Path(found) / "config.json").is_relative_to(now / "mlartifacts")
    assert (Path(found) / "config.json").exists()
    assert log_run(run, now / "mlflow.db", "demo") == identity


def test_only_a_folder_that_is_gone_is_looked_for_elsewhere(tmp_path):
    for name in ("gone", "there", "remote"):
        (tmp_path / "mlartifacts" / name).mkdir(parents=True)
    (tmp_path / "old/there").mkdir(parents=True)
    before = [(tmp_path / "old" / name).as_uri() for name in ("gone", "there")]
    before.append("s3://bucket/remote")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        store.execute("create table experiments (experiment_id, name, artifact_location)")
        store.execute("create table runs (experiment_id, artifact_uri)")
        for key, location in enumerate(before):
            name = location.rpartition("/")[2]
            store.execute("insert into experiments values (?, ?, ?)", (key, name, location))
    follow_move(tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store:
        after = [place for (place,) in store.execute("select artifact_location from experiments")]
    assert after == [(tmp_path / "mlartifacts/gone").as_uri(), *before[1:]]


def test_a_database_of_something_else_is_one_line(tmp_path):
    with pytest.raises(UserError, match="MLflow store x: no such table"), tracking_errors("x"):
        follow_move(tmp_path / "empty.db")


def test_path_with_spaces(tmp_path, empty_store):
    folder = tmp_path / "a b, ü"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_store)
    run_id = log_run(make_run(folder / "run", lines=2), folder / "mlflow.db", "my demo")
    client = connect(create_tracking_store(folder / "mlflow.db"))
    assert {f.path for f in client.list_artifacts(run_id)} >= {"config.json", "plots"}
    assert (folder / "mlartifacts" / "my demo" / run_id / "artifacts" / "config.json").exists()


@pytest.mark.slow
def test_the_interface_without_options_shows_the_runs(tmp_path, store):
    run_id = log_run(make_run(tmp_path / "run"), store, "demo")
    port = random.randrange(20000, 60000)
    environment = {
        **os.environ,
        "MLFLOW_PORT": str(port),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_WORKERS": "1",  # each of the four imports all of MLflow
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # as do its consumers of jobs
    }
    command = [str(Path(sys.executable).with_name("mlflow")), "ui"]
    interface = subprocess.Popen(
        command, cwd=tmp_path, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/health")
        run = json.loads(_get(f"{address}/api/2.0/mlflow/runs/get?run_id={run_id}"))["run"]
        assert run["info"]["run_name"] == "demo/gumbel, seed 0"
        config = _get(f"{address}/get-artifact?run_uuid={run_id}&path=config.json")
        assert config == (tmp_path / "run" / "config.json").read_text()
    finally:
        os.killpg(interface.pid, signal.SIGKILL)
        interface.wait()


def _get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def _wait_for(url):
    for _ in range(240):
        try:
            return _get(url)
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{url} does not answer")


@pytest.mark.parametrize(
    "name",
    ["../../up", "..", "/abs", "a/../../b", "", "a\\b", "line\n", "-x", ".hidden", "x" * 300],
)
def test_a_name_writes_nothing_outside_the_store(name, store, tmp_path):
    before = {*tmp_path.rglob("*"), *tmp_path.parent.glob("*")}
    run = make_run(tmp_path / "in" / "run")
    with pytest.raises(UserError, match="it names a folder") as raised:
        log_run(run, store, name)
    assert "\n" not in str(raised.value)
    after = {*tmp_path.rglob("*"), *tmp_path.parent.glob("*")} - {
        run.parent,
        *run.parent.rglob("*"),
    }
    assert after == before


def test_a_name_is_a_folder_beside_the_store_and_a_password_stays_out_of_it(store, tmp_path):
    run = make_run(tmp_path / "run")
    content = json.loads((run / "config.json").read_text())
    content["gol"]["weights"] = {"url": "https://me:s3cret@host/x.pth?token=s3cret"}
    (run / "config.json").write_text(json.dumps(content))
    identity = log_run(run, store, "My runs, 10 %")
    (copied,) = (tmp_path / "mlartifacts" / "My runs, 10 %" / identity).rglob("config.json")
    content["gol"]["weights"]["url"] = "https://***@host/x.pth?token=***"
    assert json.loads(copied.read_text()) == content


@pytest.mark.parametrize("name", ["demo/../../x y", "demo/\x1b[31m", "demo/a\nb", ""])
def test_a_config_names_an_experiment_and_nothing_else(name, store, tmp_path):
    run = make_run(tmp_path / "run")
    content = json.loads((run / "config.json").read_text())
    content["gol"]["experiment"] = name
    (run / "config.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"'gol\.experiment' must be the name of an exp"):
        log_run(run, store, "demo")
