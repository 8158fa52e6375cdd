"""Which of this machine's GPUs a local run takes, so that several runs share them evenly."""

import copy
import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gol.cluster.home import private_folder
from gol.cluster.joblog import say
from gol.cluster.tasks import Task

if TYPE_CHECKING:
    from filelock import BaseFileLock

_PAUSE = 1.0  # seconds between two looks for a place


@contextmanager
def pinned(task: Task, runs: int) -> Iterator[Task]:
    """Yields the task with a GPU of its own within the block, unless it names its device.

    Args:
        task: of one process.
        runs: most runs of this user on one GPU, for a place among which it waits; 0: no limit.
    """
    if task.device not in (None, "cuda"):
        yield task
        return
    import torch

    gpus = [
        str(torch.cuda.get_device_properties(index).uuid)
        for index in range(torch.cuda.device_count())
    ]
    folder = private_folder()
    if not (gpus and folder):
        yield task
        return
    index, lock = take_place(Path(folder, "gpus"), gpus, runs)
    with lock:
        chosen = copy.copy(task)
        chosen.device = f"cuda:{index}"
        yield chosen


def take_place(folder: Path, gpus: Sequence[str], runs: int) -> "tuple[int, BaseFileLock]":
    """Waits for a place on one of the GPUs with the fewest runs.

    Args:
        folder: of the locks, one for each place; the system lifts those of a killed process.
        gpus: names by which all processes know them.
        runs: most of them on one GPU; 0: no limit.

    Returns:
        The GPU's index, and the lock, which is held.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(exist_ok=True)
    said = False
    while True:
        for number in range(runs) if runs else itertools.count():
            for index, name in enumerate(gpus):
                lock = FileLock(folder / f"{name}.{number}.lock")
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    continue
                return index, lock
        if not said:
            say(f"waiting for one of {len(gpus)} GPUs, each with {runs} runs (runs_per_gpu)")
            said = True
        time.sleep(_PAUSE)
