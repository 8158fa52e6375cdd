"""Scenarios on Slurm, which run side by side since most of their time is spent waiting."""

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from slurm_cluster import Cluster

WAIT = 1800.0  # seconds, on a busy machine
ASKING = 1.0  # seconds between two questions to Slurm
_STOPPED, _GOING = 0.9, 0.1  # seconds of each second of a slow machine


class Laboratory:
    """Starts each scenario once, in a thread of its own.

    Args:
        cluster: the cluster that they share.
        folder: an empty folder.
        data: a prepared dataset.
    """

    def __init__(self, cluster: Cluster, folder: Path, data: Path) -> None:
        self.cluster, self.folder, self.data = cluster, folder, data
        self.closing = threading.Event()
        self._threads = ThreadPoolExecutor(max_workers=32)
        self._begun: dict[Callable, Future] = {}
        self._lock = threading.Lock()

    def start(self, scenario: Callable[["Bench"], Any]) -> Future:
        """Starts a scenario unless that was done."""
        with self._lock:
            if scenario not in self._begun:
                self._begun[scenario] = self._threads.submit(self._run, scenario)
            return self._begun[scenario]

    def outcome(self, scenario: Callable[["Bench"], Any]) -> Any:
        """What a scenario returns; raises what it raises."""
        return self.start(scenario).result()

    def _run(self, scenario: Callable[["Bench"], Any]) -> Any:
        with Bench(self, scenario.__name__) as bench:
            return scenario(bench)

    def close(self) -> None:
        """Ends all scenarios, also those that wait."""
        self.closing.set()
        self._threads.shutdown()


class Bench(contextlib.ExitStack):
    """What one scenario works with; ends all that it started."""

    def __init__(self, laboratory: Laboratory, name: str) -> None:
        super().__init__()
        self.laboratory, self.name = laboratory, name
        self.cluster, self.data = laboratory.cluster, laboratory.data
        self.folder = laboratory.folder / name
        self.folder.mkdir()

    def own_cluster(self, nodes: int, accounting: bool = False) -> Cluster:
        """A cluster that may be disturbed takes the place of the shared one."""
        self.cluster = self.enter_context(running_cluster({"gpu": nodes}, accounting))
        return self.cluster

    def start(
        self, command: list[str | Path], log: Path, cwd: Path | None = None, stdin: Any = None
    ) -> subprocess.Popen:
        """Starts a process in a session of its own, with the cluster's environment."""
        with open(log, "ab") as file:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                env=self.cluster.environment,
                stdin=stdin,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
        self.callback(_kill, process)
        return process

    def wait_for(
        self, condition: Callable[[], Any], said: Callable[[], str] = str, poll: float = 0.2
    ) -> None:
        """Looks every ``poll`` seconds until the condition holds; ``said`` tells why it may not."""
        end = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < end, f"waited in vain: {said()}"
            assert not self.laboratory.closing.wait(poll), "the tests are ending"

    def wait(self, process: subprocess.Popen, said: Callable[[], str] = str) -> int:
        """A process's exit code."""
        self.wait_for(lambda: process.poll() is not None, said)
        return process.returncode

    def outcome(self, scenario: Callable[["Bench"], Any]) -> Any:
        """Another scenario's result."""
        return self.laboratory.outcome(scenario)

    @contextlib.contextmanager
    def slow_machine(self, job: str) -> Iterator[None]:
        """A job makes a tenth of its progress, so that it does not end too soon for a test."""
        over = threading.Event()

        def slow() -> None:
            while not over.is_set():
                for number, seconds in ((signal.SIGSTOP, _STOPPED), (signal.SIGCONT, _GOING)):
                    self.cluster.signal(number, f"SLURM_JOB_ID={job}")
                    over.wait(seconds)
            self.cluster.signal(signal.SIGCONT, f"SLURM_JOB_ID={job}")

        thread = threading.Thread(target=slow)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def scenarios(*chosen: Callable[[Bench], Any]) -> pytest.MarkDecorator:
    """Runs a test with each of the scenarios."""
    names = [scenario.__name__ for scenario in chosen]
    return pytest.mark.parametrize("scenario", chosen, ids=names)


def _kill(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        process.stdin.close()


@contextlib.contextmanager
def running_cluster(partitions: dict[str, int], accounting: bool = False) -> Iterator[Cluster]:
    """A cluster in a folder of its own, which goes with it."""
    # munge's socket must have a short path.
    with tempfile.TemporaryDirectory(prefix="gol-slurm-", ignore_cleanup_errors=True) as folder:
        cluster = Cluster(Path(folder), partitions, accounting)
        try:
            cluster.start()
            yield cluster
        finally:
            cluster.stop()
