"""Metrics on a real server while a run trains: nothing lost, nothing doubled."""

import json
import threading
import time

import pytest
from mlflow_stores import served
from run_folders import bare_config, make_run

from gol.config.resolve import fingerprint, read_config
from gol.results.runs import read_curve
from gol.results.tracking import log_run
from gol.results.tracking_live import follow_runs
from gol.results.tracking_store import connect


class _Training:
    """A run that writes what a training does, when it is told."""

    def __init__(self, folder, data):
        self.run = make_run(folder / "run", lines=40)
        config = bare_config(data / "train.store")
        config["gol"] = json.loads((self.run / "config.json").read_text())["gol"]
        (self.run / "config.json").write_text(json.dumps(config))
        self.summary = json.loads((self.run / "train.json").read_text())
        (self.run / "train.json").unlink()
        self.lines = (self.run / "metrics.jsonl").read_text().splitlines(keepends=True)
        (self.run / "metrics.jsonl").unlink()

    def write(self, start, end):
        with open(self.run / "metrics.jsonl", "a") as file:
            file.writelines(self.lines[start:end])

    def go_back(self, line):
        """A killed training goes on from a checkpoint: the same iterations at other times."""
        (self.run / "metrics.jsonl").write_text("".join(self.lines[:line]))
        later = [{**json.loads(text), "time": time.time()} for text in self.lines[line:]]
        self.lines[line:] = [json.dumps(point) + "\n" for point in later]

    def finish(self):
        self.summary["fingerprint"] = fingerprint(read_config(self.run))
        (self.run / "train.json").write_text(json.dumps(self.summary))

    @property
    def points(self):
        return [(p["iteration"], p["loss"], round(1000 * p["time"])) for p in read_curve(self.run)]


def _seen(address):
    """The losses of the only run on the server, or nothing."""
    client = connect(address)
    experiment = client.get_experiment_by_name("demo")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    if not found:
        return None, []
    (run,) = found
    history = client.get_metric_history(run.info.run_id, "train/loss")
    return run, sorted((point.step, point.value, point.timestamp) for point in history)


def _wait_until_all_is_seen(address, training):
    end = time.monotonic() + 60
    while (seen := _seen(address)[1]) != training.points:
        assert time.monotonic() < end, f"{len(seen)} of {len(training.points)} points are there"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_server_that_goes_and_comes_gets_every_number_once(tmp_path, tiny_data, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    training = _Training(tmp_path, tiny_data)
    with served(tmp_path) as address:
        arguments = ([training.run], address, "demo", 0.1)
        follower = threading.Thread(target=follow_runs, args=arguments, daemon=True)
        follower.start()
        training.write(0, 10)
        _wait_until_all_is_seen(address, training)
        training.write(10, 15)
        _wait_until_all_is_seen(address, training)
        assert _seen(address)[0].data.params["learning_rate"] == "0.02"
        assert _seen(address)[0].info.status == "RUNNING"
    training.write(15, 20)  # nobody hears of it
    time.sleep(0.5)
    training.go_back(12)
    training.write(12, 25)
    assert follower.is_alive()
    with served(tmp_path, int(address.rpartition(":")[2])):
        _wait_until_all_is_seen(address, training)
        training.write(25, 40)
        training.finish()
        follower.join(30)
        assert not follower.is_alive()
        _wait_until_all_is_seen(address, training)
        identity = log_run(training.run, address, "demo")
        run, points = _seen(address)
        assert (run.info.run_id, points) == (identity, training.points)
        assert next(iter(run.data.metrics)) == "segm_AP" and run.info.status == "FINISHED"
        assert log_run(training.run, address, "demo") == identity


def test_runs_that_are_trained_are_left_alone(tmp_path, store):
    run = make_run(tmp_path / "run", lines=2)
    follow_runs([run], store, "demo", 0.01)
    assert connect(f"sqlite:///{store}").get_experiment_by_name("demo") is None
