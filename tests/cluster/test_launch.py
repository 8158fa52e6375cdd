"""The launcher against real jobs of submitit's local executor."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from signals import default_signals

import gol
from gol.cluster.launch import launch
from gol.cluster.settings import Settings
from gol.cluster.tasks import Detection, Training
from gol.config.resolve import save_config
from gol.engine.detect import detect
from gol.errors import JobFailed, UserError

CPU = "cpu"

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, demo_data):
    """A training of a few seconds."""
    config = gol.load_experiment("demo/gumbel", {"runner.max_epochs": 3}, demo_data)
    save_config(config, tmp_path / "run")
    return tmp_path / "run"


def start(run):
    command = [sys.executable, "-m", "gol", "launch", str(run), "--device", "cpu"]
    return subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
    )


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_a_killed_launcher_is_replaced_and_nothing_is_trained_twice(run, capsys):
    first = start(run)
    wait_for(lambda: (run / "job.json").exists() and '"id"' in (run / "job.json").read_text())
    first.kill()
    first.wait()
    job = json.loads((run / "job.json").read_text())
    assert psutil.pid_exists(int(job["id"]))
    assert launch(Training(run, CPU), Settings()).iterations == 24
    assert json.loads((run / "job.json").read_text()) == job
    assert len(list((run / "logs").glob("*_submitted.pkl"))) == 1
    assert "iteration 24/24" in capsys.readouterr().err


def test_a_job_that_was_started_but_not_written_down_is_ended_first(run):
    first = start(run)
    wait_for((run / "metrics.jsonl").exists)
    first.kill()
    first.wait()
    job = json.loads((run / "job.json").read_text())
    (run / "job.json").write_text(json.dumps({**job, "id": None}))
    assert launch(Training(run, CPU), Settings()).iterations == 24
    assert not psutil.pid_exists(int(job["id"]))
    assert json.loads((run / "job.json").read_text())["id"] != job["id"]


def test_ctrl_c_stops_the_job(run):
    launcher = start(run)
    wait_for((run / "metrics.jsonl").exists)
    job = psutil.Process(int(json.loads((run / "job.json").read_text())["id"]))
    family = [job, *job.children(recursive=True)]
    os.kill(launcher.pid, signal.SIGINT)
    assert launcher.wait(60) == 130
    assert not psutil.wait_procs(family, timeout=20)[1]
    assert launch(Training(run, CPU), Settings()).iterations == 24


def test_a_failed_training_says_why_in_one_line(run):
    config = json.loads((run / "config.json").read_text())
    config["data"]["train"]["ann_file"] = "nowhere.json"
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"cannot read nowhere\.json"):
        launch(Training(run, CPU), Settings())


def test_a_folder_that_is_no_run_stays_as_it_was(tmp_path):
    with pytest.raises(UserError, match=r"config\.json"):
        launch(Training(tmp_path / "typo" / "run"), Settings())
    assert not (tmp_path / "typo").exists()


def test_a_closed_terminal_leaves_the_job_running(run):
    launcher = start(run)
    wait_for((run / "metrics.jsonl").exists)
    os.killpg(launcher.pid, signal.SIGHUP)
    assert launcher.wait(60) == -signal.SIGHUP
    job = json.loads((run / "job.json").read_text())
    assert launch(Training(run, CPU), Settings()).iterations == 24
    assert json.loads((run / "job.json").read_text()) == job


def test_another_configuration_is_refused_or_starts_over(run):
    first = launch(Training(run, CPU), Settings())
    config = json.loads((run / "config.json").read_text())
    config["optimizer"]["lr"] *= 2
    (run / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=r"a training of another configuration.*--changed restart"):
        launch(Training(run, CPU), Settings())
    again = launch(Training(run, CPU), Settings(changed="restart"))
    assert again.fingerprint != first.fingerprint and again.started > first.finished


def test_a_job_that_keeps_failing_is_given_up(run):
    with pytest.raises(JobFailed, match="failed 2 times, without progress; at last: killed") as why:
        launch(Training(run, CPU), Settings(python="false", tries=2))
    assert "last lines of" in str(why.value)
    assert len(list((run / "logs").glob("*_submitted.pkl"))) == 2


def test_a_detection_is_launched_like_a_training(run, tmp_path):
    launch(Training(run, CPU), Settings())
    work = Detection(run, run / "detections/gumbel.json", "gumbel", CPU)
    launch(work, Settings())
    detect(run, tmp_path / "expected.json", "gumbel", device=CPU)
    assert (run / "detections/gumbel.json").read_bytes() == (
        tmp_path / "expected.json"
    ).read_bytes()
    job = work.record.read_text()
    launch(work, Settings())
    assert work.record.read_text() == job
