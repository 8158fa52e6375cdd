"""MLflow stores: several processes at once, moved, in use, damaged, and what a name may be."""

import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow_stores import content_of, runs_in
from run_folders import make_run

from gol.errors import UserError
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
    assert {run.info.run_id for run in runs_in(store)} == set(ids)
    assert len(set(ids)) == 4
    assert all(run.info.status == "FINISHED" for run in runs_in(store))


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
    partial = content_of(stores[0], without_ids=True)
    for store in stores:
        log_run(run, store, "demo")
    whole = content_of(stores[1], without_ids=True)
    assert len(partial["metrics"]) < len(whole["metrics"])
    assert content_of(stores[0], without_ids=True) == whole


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


def test_stores_that_cannot_be_used_are_one_line(tmp_path, empty_store, undrawn):
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


def test_a_store_that_was_moved_with_its_artifacts_finds_them(tmp_path, empty_store, undrawn):
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


def test_path_with_spaces(tmp_path, empty_store, undrawn):
    folder = tmp_path / "a b, ü"
    folder.mkdir()
    (folder / "mlflow.db").write_bytes(empty_store)
    run_id = log_run(make_run(folder / "run", lines=2), folder / "mlflow.db", "my demo")
    client = connect(create_tracking_store(folder / "mlflow.db"))
    assert {f.path for f in client.list_artifacts(run_id)} >= {"config.json", "plots"}
    assert (folder / "mlartifacts" / "my demo" / run_id / "artifacts" / "config.json").exists()


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
