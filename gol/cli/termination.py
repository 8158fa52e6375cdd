"""SIGTERM ends a verb as ever, but not before its temporary files are gone."""

import os
import select
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SECONDS = 10.0  # after which a process ends untidied
_watched = False


class _Terminated(BaseException):
    """Unwinds the stack, past all that handles errors."""


@contextmanager
def tidy_termination() -> Iterator[None]:
    """Context in which SIGTERM raises, and then ends this process by the same signal.

    A second SIGTERM ends it at once (exit code 143), and so do ten seconds in which the main thread
    has not ended it: Python hands it no signal while it computes or waits in C. Processes that are
    forked here end at once.
    """
    global _watched
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _Terminated

    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.signal(signal.SIGTERM, end)
    before, _watched = signal.set_wakeup_fd(writer, warn_on_full_buffer=False), True
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    except _Terminated:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _watched = False
        signal.set_wakeup_fd(before)
        os.close(writer)


def _watch(reader: int) -> None:
    """Ends the process if its main thread does not; the number of each signal comes as a byte."""
    came, seconds = 0, None
    with open(reader, "rb", buffering=0) as numbers:
        while came < 2 and select.select([numbers], [], [], seconds)[0]:
            read = numbers.read(64)
            if not read:  # the context is left
                return
            came += read.count(signal.SIGTERM)
            seconds = _SECONDS if came else None
    os._exit(128 + signal.SIGTERM)


def _hold(how: int) -> None:
    """Keeps SIGTERM waiting while a child is made, which would write into its parent's pipe."""
    if _watched:
        signal.pthread_sigmask(how, {signal.SIGTERM})


def _forked() -> None:
    """A child's signals are not its parent's."""
    global _watched
    if _watched:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _hold(signal.SIG_UNBLOCK)
        _watched = False


os.register_at_fork(
    before=lambda: _hold(signal.SIG_BLOCK),
    after_in_parent=lambda: _hold(signal.SIG_UNBLOCK),
    after_in_child=_forked,
)
