"""SIGTERM ends a verb as ever, but not before its temporary files are gone."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

_SECONDS = 10.0  # after which a process ends untidied
_AGAIN = 0.05  # seconds after which a SIGTERM comes again whose exception was ignored


@dataclass
class _Watch:
    """The context that is entered.

    Attributes:
        reader: end of the pipe to which the number of each signal is written as a byte.
        writer: its other end.
        put_off: how many signals come again.
    """

    reader: int
    writer: int
    put_off: int = 0


_watch: _Watch | None = None


class _Terminated(BaseException):
    """Unwinds the stack, past all that handles errors."""


@contextmanager
def tidy_termination() -> Iterator[None]:
    """Context in which SIGTERM raises, and then ends this process by the same signal.

    A second SIGTERM ends it at once (exit code 143), and so do ten seconds in which the main thread
    has not ended it: Python hands it no signal while it computes or waits in C. Processes that are
    forked here end at once.
    """
    global _watch
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    watch = _Watch(*os.pipe())

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        raise _Terminated

    def ignored(event: Any) -> None:
        if event.exc_type is not _Terminated:
            return others(event)
        # Python lets nothing out of a fork's hooks, nor of __del__.
        watch.put_off += 1
        signal.signal(signal.SIGTERM, end)
        threading.Timer(_AGAIN, os.kill, (os.getpid(), signal.SIGTERM)).start()

    os.set_blocking(watch.writer, False)
    signal.signal(signal.SIGTERM, end)
    before, _watch = signal.set_wakeup_fd(watch.writer, warn_on_full_buffer=False), watch
    others, sys.unraisablehook = sys.unraisablehook, ignored
    threading.Thread(target=_end_late, args=(watch,), daemon=True).start()
    try:
        yield
    except _Terminated:
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _watch = None
        signal.set_wakeup_fd(before)
        sys.unraisablehook = others
        os.close(watch.writer)


def _end_late(watch: _Watch) -> None:
    """Ends the process if its main thread does not."""
    came, seconds = 0, None
    while came - watch.put_off < 2 and select.select([watch.reader], [], [], seconds)[0]:
        read = os.read(watch.reader, 64)
        if not read:  # the context is left
            os.close(watch.reader)
            return
        came += read.count(signal.SIGTERM)
        seconds = _SECONDS if came else None
    os._exit(128 + signal.SIGTERM)


def _before_fork() -> None:
    """Keeps SIGTERM waiting, which the child would write into its parent's pipe."""
    if _watch:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _in_parent() -> None:
    if _watch:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def _in_child() -> None:
    """A child's signals are not its parent's."""
    global _watch
    if _watch:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
        os.close(_watch.reader)
        os.close(_watch.writer)
        _watch = None


os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
