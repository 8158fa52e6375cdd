"""SIGUSR2 asks a run to make room: it writes a checkpoint first, and then obeys."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from gol.engine.distributed import outlive_main
from gol.errors import Interrupted


class Preemption:
    """Context in which SIGUSR2 is only noted, also by the processes started in it.

    Attributes:
        requested: whether the signal has come.
    """

    def __init__(self) -> None:
        self.requested, self.waiting = False, ""
        self.frame: FrameType | None = None
        self.previous: Any = signal.SIG_DFL

    def __enter__(self) -> "Preemption":
        # Python hands signals to the main thread alone.
        self.active = threading.current_thread() is threading.main_thread()
        if self.active:
            self.previous = signal.signal(signal.SIGUSR2, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        if self.active:
            signal.signal(signal.SIGUSR2, self.previous)

    def _note(self, _: int, frame: FrameType | None) -> None:
        self.requested, self.frame = True, frame
        waiting, self.waiting = self.waiting, ""  # a second signal finds nothing to obey
        if waiting:
            self.obey(waiting)

    @contextmanager
    def at_once(self, message: str) -> Iterator[None]:
        """Context of a wait that the signal ends, as :meth:`obey` does."""
        self.waiting = message
        try:
            if self.requested:
                self.obey(message)
            yield
        finally:
            self.waiting = ""

    def obey(self, message: str) -> None:
        """Calls the handler that was there before (submitit's requeues the job and ends it).

        Raises:
            Interrupted: there was none, or it left this process running.
        """
        if callable(self.previous):
            self.previous(signal.SIGUSR2, self.frame)
            outlive_main()
        raise Interrupted(message)
