"""When one rank fails, the others end soon, and the reason is said once."""

import json
import os
import threading
import time
from contextlib import suppress
from typing import Any

import torch.distributed as dist

from gol.errors import Interrupted, LostJobError, PeerError, UserError

_POLL = 1.0  # seconds
_GRACE = 20.0  # seconds from another rank's failure to the end of this one, whatever it does
_FAREWELL = 5.0  # seconds that a failed rank waits for the others to have read why
_KEY, _LEFT = "failed", "left"
_ASKED = f"{Interrupted.__name__}: "
_LOST = "a rank of the job is gone without a word (killed?); the same command continues"


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
        self.failure: tuple[int, str] | None = None
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
            rank, reason = self.failure
            if reason.startswith(_ASKED):
                raise Interrupted(reason.removeprefix(_ASKED)) from error
            raise PeerError(f"rank {rank}: {reason}") from error
        if error is not None and _is_lost_peer(error):
            raise LostJobError(_lost(error)) from error

    def _mine(self) -> bool:
        return self.failure is None or self.failure[0] == self.rank

    def report(self, error: BaseException) -> None:
        """Publishes this failure, or learns which one came before.

        That another rank is gone is a consequence, and gives way to a reason.
        """
        text = " ".join(str(error).split()) or "interrupted"
        reason = text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"
        reason = _lost(error) if _is_lost_peer(error) else reason
        known = self.failure is not None and not self.failure[1].startswith(_LOST)
        if known or (self.failure is not None and reason.startswith(_LOST)):
            return
        mine = json.dumps([self.rank, reason])
        with suppress(Exception):
            found = self.rendezvous.compare_set(_KEY, "", mine).decode()
            if json.loads(found)[1].startswith(_LOST) and not reason.startswith(_LOST):
                found = self.rendezvous.compare_set(_KEY, found, mine).decode()
            self.failure = tuple(json.loads(found))

    def _watch(self) -> None:
        missed = 0
        while self.failure is None and missed < _GRACE and not self.left.wait(_POLL):
            try:
                if self.rendezvous.check([_KEY]):
                    self.failure = tuple(json.loads(self.rendezvous.get(_KEY)))
                missed = 0
            except Exception:
                missed += 1  # rank 0 is gone, and the rendezvous with it?
        if not self.left.wait(_GRACE):
            with suppress(Exception):
                dist.group.WORLD.abort()
            if not self.left.wait(_GRACE):
                os._exit(1)


def _lost(error: BaseException) -> str:
    return f"{_LOST} ({' '.join(str(error).split())[:300]})"


def _is_lost_peer(error: BaseException) -> bool:
    """Whether an error is torch's for a connection that the other side has closed."""
    if isinstance(error, dist.DistError):
        return True
    words = ("gloo", "Connection closed by peer", "Connection reset", "Broken pipe")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
