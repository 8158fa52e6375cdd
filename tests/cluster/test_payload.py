"""What a job says of its end."""

import errno

import pytest
import torch

from gol.cluster.outcome import Cause, Outcome, read_outcome
from gol.cluster.payload import Payload
from gol.cluster.tasks import Training
from gol.errors import Interrupted, LostJobError, NodeError, PeerError, UserError


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
        (UserError("bad\rinput"), 2, Cause.INPUT, "bad\\rinput"),
        (LostJobError("gone"), 1, Cause.LOST, "gone"),
        (KeyError("x"), None, Cause.EXCEPTION, "KeyError: 'x'"),
        (MemoryError(), None, Cause.MEMORY, "MemoryError: "),
        (torch.OutOfMemoryError("CUDA"), None, Cause.GPU_MEMORY, "OutOfMemoryError: CUDA"),
        (OSError(errno.ENOSPC, "full"), None, Cause.DISK, "OSError: [Errno 28] full"),
        (OSError(errno.EDQUOT, "quota"), None, Cause.QUOTA, "OSError: [Errno 122] quota"),
        (OSError(errno.EFBIG, "big"), None, Cause.FILE_SIZE, "OSError: [Errno 27] big"),
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


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (NodeError("n7: cuda:0 fails its health check"), "n7: cuda:0 fails its health check"),
        (
            RuntimeError("CUDA error: uncorrectable ECC error encountered\nCompile with …"),
            "n7: CUDA error: uncorrectable ECC error encountered",
        ),
    ],
)
def test_a_machine_that_does_not_work_is_named(job, monkeypatch, error, message):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    with pytest.raises((SystemExit, RuntimeError)) as caught:
        Payload(Failing(job.parent, error))()
    assert getattr(caught.value, "code", 1) == 1
    assert read_outcome(job, "7") == Outcome(cause=Cause.NODE, message=message, node="n7")


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
