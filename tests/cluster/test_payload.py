"""What a job says of its end, and jobs that 0.2.0 submitted."""

import errno
import json
import os
import pickle
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from gol.cluster.launch import launch
from gol.cluster.outcome import Cause, Outcome, outcome_path, read_outcome
from gol.cluster.payload import Payload
from gol.cluster.settings import Settings
from gol.cluster.tasks import Detection, Training
from gol.errors import Interrupted, LostJobError, PeerError, UserError


@pytest.fixture
def job(tmp_path, monkeypatch):
    """Makes this process rank 1 of a local job 7 whose logs are in the folder that it yields."""
    values = {"EXECUTOR": "local", "FOLDER": tmp_path / "logs"}
    values |= {"LOCAL_JOB_ID": 7, "LOCAL_NTASKS": 2, "LOCAL_GLOBALID": 1, "LOCAL_LOCALID": 1}
    for name, value in values.items():
        monkeypatch.setenv(f"SUBMITIT_{name}", str(value))
    (tmp_path / "logs").mkdir()
    return tmp_path / "logs"


class Failing(Training):
    """A training that raises."""

    def __init__(self, run, error):
        super().__init__(run)
        self.error = error

    def do(self):
        raise self.error


@pytest.mark.parametrize(
    ("error", "code", "cause", "message"),
    [
        (UserError("bad\ninput"), 2, Cause.INPUT, "bad input"),
        (LostJobError("gone"), 1, Cause.LOST, "gone"),
        (KeyError("x"), None, Cause.EXCEPTION, "KeyError: 'x'"),
        (MemoryError(), None, Cause.MEMORY, "MemoryError: "),
        (torch.OutOfMemoryError("CUDA"), None, Cause.GPU_MEMORY, "OutOfMemoryError: CUDA"),
        (OSError(errno.ENOSPC, "full"), None, Cause.DISK, "OSError: [Errno 28] full"),
        (OSError(errno.EDQUOT, "quota"), None, Cause.QUOTA, "OSError: [Errno 122] quota"),
        (OSError(errno.EIO, "odd"), None, Cause.EXCEPTION, "OSError: [Errno 5] odd"),
    ],
)
def test_a_failure_is_typed_where_it_arises(job, capsys, error, code, cause, message):
    with pytest.raises(SystemExit if code else type(error)) as caught:
        Payload(Failing(job.parent, error))()
    assert read_outcome(job, "7") == Outcome(cause=cause, message=message)
    said = capsys.readouterr().err
    if code:
        assert caught.value.code == code
        # By these words a launcher of 0.2.0 knows bad input.
        assert said.startswith("gol: error: ") == (code == 2) and message in said


def test_a_rank_whose_peer_failed_or_makes_room_says_nothing_of_its_own(job):
    with pytest.raises(SystemExit) as caught:
        Payload(Failing(job.parent, PeerError("rank 0: bad")))()
    assert caught.value.code == 1 and read_outcome(job, "7") is None
    with pytest.raises(Interrupted):
        Payload(Failing(job.parent, Interrupted("asked to stop")))()
    assert read_outcome(job, "7") is None


def test_the_reason_of_an_earlier_attempt_is_forgotten(job):
    Outcome(cause=Cause.INPUT, message="old").write(job, "7", 1)
    with pytest.raises(SystemExit):
        Payload(Failing(job.parent, PeerError("x")))()
    assert read_outcome(job, "7") is None


def test_of_several_ranks_the_reason_wins_over_its_consequences(tmp_path):
    Outcome(cause=Cause.LOST, message="gone").write(tmp_path, "7", 0)
    Outcome(cause=Cause.INPUT, message="other job").write(tmp_path, "71", 0)
    Outcome(cause=Cause.EXCEPTION, message="KeyError").write(tmp_path, "7", 1)
    assert read_outcome(tmp_path, "7").cause == Cause.EXCEPTION
    Outcome(cause=Cause.INPUT, message="bad").write(tmp_path, "7", 10)
    assert read_outcome(tmp_path, "7").message == "bad"
    assert read_outcome(tmp_path, "8") is None


def test_a_full_disk_does_not_hide_the_failure(job, monkeypatch, capsys):
    def full(*_):
        raise UserError("cannot write")

    monkeypatch.setattr(Outcome, "write", full)
    with pytest.raises(SystemExit):
        Payload(Failing(job.parent, UserError("No space left on device")))()
    assert "No space left" in capsys.readouterr().err


#: pickle.dumps of Work(Path("run"), "cpu") with one GPU kept, and of Detection(Path("run"),
#: Path("run/detections/gumbel.json"), "gumbel", "cpu"), by version 0.2.0.
WORK = (
    b"\x80\x04\x95]\x00\x00\x00\x00\x00\x00\x00\x8c\x08gol.work\x94\x8c\x04Work\x94\x93\x94)"
    b"\x81\x94}\x94(\x8c\x03run\x94\x8c\x07pathlib\x94\x8c\tPosixPath\x94\x93\x94h\x05\x85\x94R"
    b"\x94\x8c\x06device\x94\x8c\x03cpu\x94\x8c\x04gpus\x94\x8c\x011\x94\x85\x94ub."
)
DETECTION = (
    b"\x80\x04\x95\x99\x00\x00\x00\x00\x00\x00\x00\x8c\x08gol.work\x94\x8c\tDetection\x94\x93\x94)"
    b"\x81\x94}\x94(\x8c\x03run\x94\x8c\x07pathlib\x94\x8c\tPosixPath\x94\x93\x94h\x05\x85\x94R"
    b"\x94\x8c\x06device\x94\x8c\x03cpu\x94\x8c\x04gpus\x94)\x8c\x03out\x94h\x08h\x05\x8c\n"
    b"detections\x94\x8c\x0bgumbel.json\x94\x87\x94R\x94\x8c\x07scoring\x94\x8c\x06gumbel\x94ub."
)
#: submitit's file of the former.
SUBMITTED = (
    b"\x80\x05\x95\xeb\x00\x00\x00\x00\x00\x00\x00\x8c\x13submitit.core.utils\x94\x8c"
    b"\x11DelayedSubmission\x94\x93\x94)\x81\x94}\x94(\x8c\x08function\x94\x8c\x08gol.work\x94\x8c"
    b"\x04Work\x94\x93\x94)\x81\x94}\x94(\x8c\x03run\x94\x8c\x07pathlib\x94\x8c\tPosixPath\x94\x93"
    b"\x94h\x0b\x85\x94R\x94\x8c\x06device\x94\x8c\x03cpu\x94\x8c\x04gpus\x94\x8c\x011\x94\x85\x94ub"
    b"\x8c\x04args\x94)\x8c\x06kwargs\x94}\x94\x8c\x07_result\x94N\x8c\x05_done\x94\x89\x8c"
    b"\x0c_timeout_min\x94K\x00\x8c\x12_timeout_countdown\x94K\x00ub."
)


def test_jobs_of_0_2_0_do_what_ours_do(job, monkeypatch):
    monkeypatch.chdir(job.parent)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = []
    monkeypatch.setattr(Training, "do", lambda self: done.append(self))
    monkeypatch.setattr(Detection, "do", lambda self: done.append(self))
    pickle.loads(WORK)()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    pickle.loads(DETECTION)()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    training, detection = done
    assert (type(training), str(training.run), training.device) == (Training, "run", "cpu")
    assert (type(detection), str(detection.run), detection.device) == (Detection, "run", "cpu")
    assert detection.out == Path("run/detections/gumbel.json") and detection.scoring == "gumbel"
    # What is requeued is today's form.
    again = pickle.loads(WORK).checkpoint().function
    assert isinstance(again, Payload) and again.gpus == ("1",) and str(again.task.run) == "run"


def test_bad_input_of_a_job_of_0_2_0_is_typed(job, monkeypatch):
    monkeypatch.chdir(job.parent)
    with pytest.raises(SystemExit):
        pickle.loads(WORK)()
    outcome = read_outcome(job, "7")
    assert outcome.cause == Cause.INPUT and "run/config.json" in outcome.message


@pytest.mark.slow
def test_a_job_that_0_2_0_submitted_is_followed_to_its_end(tmp_path, demo_data, monkeypatch):
    from submitit.local.local import start_controller

    import gol
    from gol.config.resolve import fingerprint, save_config

    monkeypatch.chdir(tmp_path)
    run = Path("run")
    config = gol.load_experiment("demo/gumbel", {"runner.max_epochs": 1}, demo_data)
    save_config(config, run)
    (run / "logs").mkdir()
    folder = (run / "logs").absolute()
    command = f"{sys.executable} -u -m submitit.core._submit {folder}"
    process = start_controller(folder, command, timeout_min=60, stderr_to_stdout=True)
    (folder / f"{process.pid}_submitted.pkl").write_bytes(SUBMITTED)
    record = {
        "cluster": "local",
        "name": "gol.run.0",
        "mark": fingerprint(config),
        "submitted": time.time(),
        "id": str(process.pid),
        "started": psutil.Process(process.pid).create_time(),
        "host": os.uname().nodename,
    }
    (run / "job.json").write_text(json.dumps(record))
    try:
        assert launch(Training(run), Settings()).iterations == 8
        assert json.loads((run / "job.json").read_text()) == record
    finally:
        process.wait(60)
    assert not outcome_path(folder, str(process.pid), 0).exists()
