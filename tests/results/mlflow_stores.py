"""Looks into MLflow stores, and serves them."""

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from gol.results.tracking import create_tracking_store
from gol.results.tracking_store import connect


def content_of(path, without_ids=False):
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


def files_in(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def runs_in(store, name="demo"):
    client = connect(create_tracking_store(store))
    return client.search_runs([client.get_experiment_by_name(name).experiment_id])


def get(url):
    with urllib.request.urlopen(url, timeout=30) as answer:
        return answer.read().decode()


def wait_for(url):
    for _ in range(240):
        try:
            return get(url)
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{url} does not answer")


@contextlib.contextmanager
def served(folder, port=None):
    """The address of a real ``mlflow ui`` in a folder, which ends without a warning at the end."""
    port = port or random.randrange(20000, 60000)
    environment = {
        **os.environ,
        "MLFLOW_PORT": str(port),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_WORKERS": "1",  # each of the four imports all of MLflow
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # as do its consumers of jobs
    }
    command = [str(Path(sys.executable).with_name("mlflow")), "ui"]
    server = subprocess.Popen(
        command, cwd=folder, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
    )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_for(f"{address}/health")
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
