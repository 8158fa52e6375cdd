"""Detections of one file by several jobs."""

import json
import os
import signal
import threading

import pytest
import torch

from gol.engine.distributed import Ranks
from gol.engine.preemption import Preemption
from gol.engine.shards import write_sharded
from gol.errors import Interrupted
from gol.files import exclusive


def test_the_second_of_two_jobs_waits_for_the_first(tmp_path, capsys):
    """Both would write the same parts."""
    out, ranks = tmp_path / "new/d.json", Ranks(0, 1, torch.device("cpu"))
    (tmp_path / "new").mkdir()
    second = threading.Thread(target=write_sharded, args=(out, [[1], [2, 3]], ranks))
    with exclusive(out, ""):
        second.start()
        second.join(0.5)
        assert second.is_alive() and [path.name for path in out.parent.iterdir()] == [
            ".d.json.lock"
        ]
    second.join(20)
    assert json.loads(out.read_text()) == [1, 2, 3]
    assert f"{out}: waiting for the process that writes it" in capsys.readouterr().err


def test_a_job_that_waits_for_another_can_be_asked_to_stop(tmp_path):
    out, ranks = tmp_path / "d.json", Ranks(0, 1, torch.device("cpu"))
    held, done = threading.Event(), threading.Event()

    def hold():
        with exclusive(out, ""):
            held.set()
            done.wait(20)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(20)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGUSR2)).start()
    try:
        with Preemption() as preemption, pytest.raises(Interrupted, match="asked to stop"):
            write_sharded(out, [[1]], ranks, preemption.at_once("asked to stop"))
    finally:
        done.set()
        other.join()
    assert not out.exists()
