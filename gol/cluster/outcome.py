"""Why a job failed, said where it is known: by the process that failed, beside its log."""

import errno
import sys
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gol.engine.health import BROKEN, this_node
from gol.errors import Interrupted, LostJobError, NodeError, PeerError, UserError
from gol.files import read_model, write_json

_SUFFIX = ".outcome.json"


class Cause(StrEnum):
    """What kind of reason it is; of several ranks' causes the first one here is the job's."""

    INPUT = "input"  # what the job was told to do cannot be done: the same again will fail
    NODE = "node"  # the machine does not work: another may
    GPU_MEMORY = "out of GPU memory"
    MEMORY = "out of memory"
    DISK = "the disk is full"
    QUOTA = "over quota: no more may be written there"
    FILE_SIZE = "a file is larger than the limit (`ulimit -f`) or the file system allows"
    EXCEPTION = "exception"
    LOST = "lost"  # another process, or its machine, is gone


#: What a system says when nothing more can be written.
_OF_DISK = {errno.ENOSPC: Cause.DISK, errno.EDQUOT: Cause.QUOTA, errno.EFBIG: Cause.FILE_SIZE}


class Outcome(BaseModel):
    """How a rank's attempt at a job's task failed.

    Attributes:
        cause: the kind.
        message: one line for people.
        node: the machine that does not work, if that is the reason.
    """

    model_config = ConfigDict(frozen=True)

    cause: Cause
    message: str
    node: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Outcome | None":
        """What an exception says; None where it is not this rank that knows why the job ends."""
        if isinstance(error, PeerError | Interrupted):
            return None
        text = " ".join(str(error).split())
        if isinstance(error, NodeError):
            return cls(cause=Cause.NODE, message=text, node=this_node())
        if isinstance(error, UserError):
            lost = isinstance(error, LostJobError)
            return cls(cause=Cause.LOST if lost else Cause.INPUT, message=text)
        if BROKEN.search(text):
            message = f"{this_node()}: {str(error).splitlines()[0]}"
            return cls(cause=Cause.NODE, message=message, node=this_node())
        return cls(cause=_kind(error), message=f"{type(error).__name__}: {text}")

    def write(self, folder: Path, identity: str, rank: int) -> None:
        """Writes the outcome of a rank.

        Raises:
            UserError: the folder cannot be written or the disk is full.
        """
        write_json(outcome_path(folder, identity, rank), self.model_dump())

    def __str__(self) -> str:
        """A few words."""
        if self.cause in (Cause.INPUT, Cause.NODE, Cause.LOST):
            return self.message
        return f"exception {self.message}" if self.cause == Cause.EXCEPTION else self.cause


def _kind(error: BaseException) -> Cause:
    torch = sys.modules.get("torch")  # where it was not imported it has raised nothing
    if torch and isinstance(error, torch.OutOfMemoryError):
        return Cause.GPU_MEMORY
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return Cause.MEMORY
    return _OF_DISK.get(getattr(error, "errno", None), Cause.EXCEPTION)


def outcome_path(folder: Path, identity: str, rank: int) -> Path:
    """Where a rank of a job says why its last attempt failed."""
    return folder / f"{identity}_{rank}{_SUFFIX}"


def read_outcome(folder: Path, identity: str) -> Outcome | None:
    """The reason of all that a job's ranks have said of their last attempt; None for nothing.

    Raises:
        UserError: a file is damaged.
    """
    paths = sorted(folder.glob(f"{identity}_*{_SUFFIX}"))
    found = [read_model(path, Outcome) for path in paths]
    return min(found, key=lambda outcome: [*Cause].index(outcome.cause), default=None)
