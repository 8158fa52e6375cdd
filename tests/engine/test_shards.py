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
from gol.errors import Interrupted, UserError
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


def test_a_chunk_is_written_while_the_next_is_made(tmp_path):
    """The device must not wait for run lengths; yet a slow disk must not fill the memory."""
    out, ranks = tmp_path / "d.json", Ranks(0, 1, torch.device("cpu"))
    made, allowed, busy = [], threading.Event(), threading.Event()

    def items(number):
        assert threading.current_thread() is not threading.main_thread()
        busy.set()
        assert allowed.wait(20)
        yield from range(number)

    def chunks():
        for number in range(6):
            made.append(number)
            if number == 1:
                assert busy.wait(20) and not allowed.is_set()  # the first is being written
                threading.Timer(0.3, lambda: (held.extend(made), allowed.set())).start()
            yield items(number)

    held = []
    assert write_sharded(out, chunks(), ranks) == 15
    assert held == [0, 1, 2]  # one is being written, two wait
    assert json.loads(out.read_text()) == [item for number in range(6) for item in range(number)]


def test_a_disk_that_fills_ends_the_detection_at_once(tmp_path):
    """In one line, with nothing that looks finished, and without the rest of the images."""
    out, ranks = tmp_path / "d.json", Ranks(0, 1, torch.device("cpu"))
    (tmp_path / ".d.json.part0").symlink_to("/dev/full")
    chunks = iter([["x" * 10**6]] * 100)
    with pytest.raises(UserError, match=rf"^cannot write {out}: No space left on device$"):
        write_sharded(out, chunks, ranks)
    assert len(list(chunks)) > 90
    assert [path.name for path in tmp_path.iterdir()] == [".d.json.lock"]


def test_an_error_of_the_writing_thread_is_the_callers(tmp_path):
    out, ranks = tmp_path / "d.json", Ranks(0, 1, torch.device("cpu"))

    def broken():
        yield 1
        raise UserError("image 7 is damaged")

    with pytest.raises(UserError, match="image 7 is damaged"):
        write_sharded(out, [[1], broken(), [2]], ranks)
    assert not out.exists()
