"""Several local runs spread over the GPUs, no more on one than allowed."""

import multiprocessing
import os
import signal

import pytest

from gol.cluster import gpus
from gol.cluster.gpus import pinned, take_place
from gol.cluster.settings import Settings
from gol.cluster.tasks import Training
from gol.errors import UserError

FORKS = multiprocessing.get_context("fork")
NAMES = ["uuid a", "uuid b"]


@pytest.mark.parametrize("runs", [2, 0])
def test_runs_are_spread_evenly(tmp_path, runs):
    held = [take_place(tmp_path / "gpus", NAMES, runs) for _ in range(4)]
    assert [index for index, _ in held] == [0, 1, 0, 1]
    held[1][1].release()
    assert take_place(tmp_path / "gpus", NAMES, runs)[0] == 1


def _hold(folder, found):
    index, _lock = take_place(folder, NAMES, 1)
    found.put((index, os.getpid()))
    signal.pause()


def test_a_run_waits_for_a_place_which_a_killed_process_gives_back(tmp_path, monkeypatch):
    monkeypatch.setattr(gpus, "_PAUSE", 0.01)
    found = FORKS.Queue()
    arguments = (tmp_path / "gpus", found)
    processes = [FORKS.Process(target=_hold, args=arguments) for _ in range(3)]
    try:
        for process in processes:
            process.start()
        first = dict(found.get(timeout=60) for _ in NAMES)
        assert first.keys() == {0, 1} and found.empty()
        os.kill(first[1], signal.SIGKILL)
        assert found.get(timeout=60)[0] == 1
    finally:
        for process in processes:
            process.kill()
            process.join()


@pytest.mark.parametrize("device", ["cpu", "cuda:1"])
def test_a_device_that_was_named_stays(tmp_path, device):
    task = Training(tmp_path, device)
    with pinned(task, 1) as chosen:
        assert chosen is task and chosen.device == device


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"tasks_per_node": 2}, "is for runs with nodes 1 and tasks_per_node 1"),
        ({"gres": "gpu:a100:1"}, "gres must be empty"),
    ],
)
def test_runs_of_several_processes_share_no_gpu(options, reason):
    with pytest.raises(UserError, match=reason):
        Settings(runs_per_gpu=2, **options)
    Settings(runs_per_gpu=1, **options)
