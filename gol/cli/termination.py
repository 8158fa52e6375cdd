"""SIGTERM ends a verb as ever, but not before its temporary files are gone."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class _Terminated(BaseException):
    """Unwinds the stack, past all that handles errors."""


@contextmanager
def tidy_termination() -> Iterator[None]:
    """Context in which SIGTERM raises, and then ends this process by the same signal.

    A second SIGTERM ends it at once, and so does the first in a process that was forked here.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    owner = os.getpid()

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        if os.getpid() == owner:
            raise _Terminated
        os.kill(os.getpid(), number)

    signal.signal(signal.SIGTERM, end)
    try:
        yield
    except _Terminated:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
