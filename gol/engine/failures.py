"""When one rank fails, the others end soon, and the reason is said once."""

import json
import os
import threading
import time
from contextlib import suppress
from enum import StrEnum
from typing import Any, NamedTuple

import torch.distributed as dist

from gol.errors import Interrupted, LostJobError, PeerError, UserError

_POLL = 1.0  # seconds
_GRACE = 20.0  # seconds from another rank's failure to the end of this one, whatever it does
_FAREWELL = 5.0  # seconds that a failed rank waits for the others to have read why
_KEY, _LEFT = "failed", "left"
_LOST = "a rank of the job is gone without a word (killed?); the same command continues"


class _Kind(StrEnum):
    FAULT = "fault"
    ASKED = "asked to stop"
    LOST = "another rank is gone"  # a consequence, which gives way to a reason


class _Failure(NamedTuple):
    """What ended a rank: the rank's number, why, and the kind of it."""

    rank: int
    reason: str
    kind: _Kind


class Watch:
    """Context of a job's work that tells the first failure to all ranks.

    The rank that fails first raises its own error, the others :class:`gol.errors.PeerError`, or
    :class:`gol.errors.Interrupted` where it was asked to stop. A rank that cannot even notice, for
    instance within NCCL, is ended after a grace period.

    Args:
        rendezvous: torch's store of the job, with keys of this context alone.
        rank: number of this process.
        world: number of processes.
    """

    def __init__(self, rendezvous: dist.Store, rank: int, world: int) -> None:
        self.rendezvous, self.rank, self.world = rendezvous, rank, world
        self.failure: _Failure | None = None
        self.left = threading.Event()

    def __enter__(self) -> "Watch":
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: Any) -> None:
        self.left.set()
        if error is not None:
            self.report(error)
        with suppress(Exception):
            self.rendezvous.add(_LEFT, 1)
        # A rendezvous kept by rank 0 ends with it, and submitit ends all with the first.
        end = time.monotonic() + _FAREWELL
        if self.rank == 0 or (error is not None and self._mine()):
            with suppress(Exception):
                while self.rendezvous.add(_LEFT, 0) < self.world and time.monotonic() < end:
                    time.sleep(_POLL / 20)
        if isinstance(error, Exception) and not self._mine():
            rank, reason, kind = self.failure
            if kind is _Kind.ASKED:
                raise Interrupted(reason) from error
            raise PeerError(f"rank {rank}: {reason}") from error
        if error is not None and _is_lost_peer(error):
            raise LostJobError(_lost(error)) from error

    def _mine(self) -> bool:
        return self.failure is None or self.failure.rank == self.rank

    def report(self, error: BaseException) -> None:
        """Publishes this failure, or learns which one came before.

        That another rank is gone is a consequence, and gives way to a reason.
        """
        mine = _failure(self.rank, error)
        lost = mine.kind is _Kind.LOST
        if self.failure is not None and (lost or self.failure.kind is not _Kind.LOST):
            return
        with suppress(Exception):
            found = self.rendezvous.compare_set(_KEY, "", json.dumps(mine))
            if _read(found).kind is _Kind.LOST and not lost:
                found = self.rendezvous.compare_set(_KEY, found.decode(), json.dumps(mine))
            self.failure = _read(found)

    def _watch(self) -> None:
        missed = 0
        while self.failure is None and missed < _GRACE and not self.left.wait(_POLL):
            try:
                if self.rendezvous.check([_KEY]):
                    self.failure = _read(self.rendezvous.get(_KEY))
                missed = 0
            except Exception:
                missed += 1  # rank 0 is gone, and the rendezvous with it?
        if not self.left.wait(_GRACE):
            with suppress(Exception):
                dist.group.WORLD.abort()
            if not self.left.wait(_GRACE):
                os._exit(1)


def _failure(rank: int, error: BaseException) -> _Failure:
    if _is_lost_peer(error):
        return _Failure(rank, _lost(error), _Kind.LOST)
    text = " ".join(str(error).split()) or "interrupted"
    if isinstance(error, Interrupted):
        return _Failure(rank, text, _Kind.ASKED)
    reason = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
    return _Failure(rank, reason, _Kind.FAULT)


def _read(text: bytes) -> _Failure:
    rank, reason, kind = json.loads(text)
    return _Failure(rank, reason, _Kind(kind))


def _lost(error: BaseException) -> str:
    return f"{_LOST} ({' '.join(str(error).split())[:300]})"


def _is_lost_peer(error: BaseException) -> bool:
    """Whether an error is torch's for a connection that the other side has closed."""
    if isinstance(error, dist.DistError):
        return True
    words = ("gloo", "Connection closed by peer", "Connection reset", "Broken pipe")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
