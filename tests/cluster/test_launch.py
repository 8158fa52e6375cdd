"""The launcher against real jobs of submitit's local executor."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import psutil
import pytest
from rank_processes import prepare
from signals import default_signals

from gol.cluster.launch import launch
from gol.cluster.settings import Settings
from gol.cluster.tasks import Detection, Training
from gol.engine.detect import detect
from gol.errors import JobFailed, UserError

CPU = "cpu"

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path, demo_data):
    """A training of a few seconds: 24 iterations."""
    return prepare(tmp_path / "run", demo_data, "demo/gumbel", **{"runner.max_epochs": 3})


@pytest.fixture
def finished(alone, tmp_path):
    """A run that is trained already."""
    return shutil.copytree(alone, tmp_path / "finished")


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


def change(run):
    """Makes another configuration of a run's."""
    config = json.loads((run / "config.json").read_text())
    config["optimizer"]["lr"] *= 2
    (run / "config.json").write_text(json.dumps(config))


def submitted(run):
    """Whether the record names a job."""
    record = run / "job.json"
    return record.exists() and json.loads(record.read_text()).get("id")


def test_a_job_outlives_its_launchers_and_nothing_is_trained_twice(run, capsys):
    """A terminal is closed, then a launcher is killed, and a third one follows the same job."""
    first = start(run)
    wait_for(lambda: submitted(run))
    os.killpg(first.pid, signal.SIGHUP)
    assert first.wait(60) == -signal.SIGHUP
    job = json.loads((run / "job.json").read_text())
    second = start(run)
    assert f"following job {job['id']}" in second.stderr.readline()
    second.kill()
    second.wait()
    assert psutil.pid_exists(int(job["id"]))
    assert launch(Training(run, CPU), Settings()).iterations == 24
    assert json.loads((run / "job.json").read_text()) == job
    assert len(list((run / "logs").glob("*_submitted.pkl"))) == 1
    assert "iteration 24/24" in capsys.readouterr().err
    change(run)
    with pytest.raises(UserError, match=r"trained with another configuration.*--changed restart"):
        launch(Training(run, CPU), Settings())


def test_a_job_that_was_not_written_down_is_ended_first_and_ctrl_c_ends_the_next(run):
    first = start(run)
    wait_for(lambda: submitted(run))
    first.kill()
    first.wait()
    lost = json.loads((run / "job.json").read_text())
    (run / "job.json").write_text(json.dumps({**lost, "id": None}))

    second = start(run)
    wait_for((run / "metrics.jsonl").exists)
    assert not psutil.pid_exists(int(lost["id"]))
    assert submitted(run) != lost["id"]
    job = psutil.Process(int(submitted(run)))
    family = [job, *job.children(recursive=True)]
    os.kill(second.pid, signal.SIGINT)
    assert second.wait(60) == 130
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


@pytest.mark.parametrize(
    ("name", "cluster", "words"),
    [
        ("a%j", "local", "no %j, %t, %a or %A in its path"),
        *[
            (name, "slurm", "no %, backslash or line break")
            for name in ("50%", "a\nrm -r x", "a\\b")
        ],
    ],
)
def test_a_folder_that_a_job_s_script_cannot_carry_is_refused(run, name, cluster, words):
    strange = run.rename(run.with_name(name))
    with pytest.raises(UserError, match=words):
        launch(Training(strange, CPU), Settings(cluster=cluster))
    assert not (strange / "logs").exists()


def test_a_finished_run_and_a_job_on_this_machine_may_have_an_odd_path(finished, tmp_path):
    odd = finished.rename(tmp_path / "50% a\\b")
    assert launch(Training(odd, CPU), Settings(cluster="slurm")).iterations
    (odd / "model.pth").unlink()
    launch(Training(odd, CPU), Settings())
    assert (odd / "model.pth").exists()


def test_another_configuration_is_refused_or_starts_over(finished):
    first = launch(Training(finished, CPU), Settings())
    change(finished)
    with pytest.raises(UserError, match=r"trained with another configuration.*--changed restart"):
        launch(Training(finished, CPU), Settings())
    again = launch(Training(finished, CPU), Settings(changed="restart"))
    assert again.fingerprint != first.fingerprint and again.started > first.finished


def test_a_job_that_keeps_failing_is_given_up(run):
    with pytest.raises(JobFailed, match="failed 2 times, without progress; at last: killed") as why:
        launch(Training(run, CPU), Settings(python="false", tries=2))
    assert "last lines of" in str(why.value)
    assert len(list((run / "logs").glob("*_submitted.pkl"))) == 2


def test_a_detection_is_launched_like_a_training(finished, tmp_path):
    work = Detection(finished, finished / "detections/gumbel.json", "gumbel", CPU)
    launch(work, Settings())
    detect(finished, tmp_path / "expected.json", "gumbel", device=CPU)
    expected = (tmp_path / "expected.json").read_bytes()
    assert (finished / "detections/gumbel.json").read_bytes() == expected
    job = work.record.read_text()
    launch(work, Settings())
    assert work.record.read_text() == job
