"""A job's log, which is for people: its progress on stderr, its end, what it says of the end."""

import contextlib
import os
import re
import sys
import tempfile
from pathlib import Path

from gol.cluster.outcome import Cause, Outcome
from gol.engine.health import BROKEN

_PROBE = 1 << 20  # bytes that must fit beside a log
_LINES = 12  # last lines of a log in a message
_BEGIN = "Starting with "  # submitit's first line of every attempt
_NOTICE = "submitit "  # begins submitit's own lines
_NODE_FAILURE, _BROKEN_GPU = "node failure", "the GPU or its driver does not work"
#: What an end is called, by Slurm's state.
_STATES = {
    "OUT_OF_MEMORY": "out of memory (more with mem_mb)",
    "TIMEOUT": "time-out before it could make room (more with runtime or signal_delay)",
    "NODE_FAIL": _NODE_FAILURE,
    "BOOT_FAIL": _NODE_FAILURE,
    "PREEMPTED": "preempted",
    "DEADLINE": "deadline",
    "CANCELLED": "cancelled from outside",
}
#: What the system writes into the log of a process that could not say more itself.
_KILLED = {
    BROKEN.pattern: _BROKEN_GPU,
    r"oom.kill|Out Of Memory|MemoryError|Cannot allocate memory": "out of memory",
    r"No space left on device": "the disk is full",
    r"Disk quota exceeded": str(Cause.QUOTA),
    r"File too large|File size limit exceeded": str(Cause.FILE_SIZE),
}


def say(text: str) -> None:
    """Prints a line on stderr; nobody may look any more, and the job goes on."""
    with contextlib.suppress(BrokenPipeError):
        print(text, file=sys.stderr, flush=True)


def log_path(folder: Path, identity: str, rank: int = 0) -> Path:
    """Where submitit has a rank write its output."""
    return folder / f"{identity}_{rank}_log.out"


class Tail:
    """Copies to stderr what a log gains, without submitit's notices."""

    def __init__(self, path: Path) -> None:
        self.path, self.position = path, 0

    def show(self) -> None:
        """Shows the lines that are new and whole."""
        with contextlib.suppress(OSError), open(self.path, "rb") as file:
            file.seek(self.position)
            text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self.position += len(whole)
            lines = whole.decode(errors="replace").splitlines(True)
            with contextlib.suppress(BrokenPipeError):
                sys.stderr.write("".join(line for line in lines if not line.startswith(_NOTICE)))
                sys.stderr.flush()


def explain(state: str, outcome: Outcome | None, folder: Path, identity: str) -> str:
    """The reason of an end, in a few words for people: Slurm's, else the job's own, else a guess.

    Args:
        state: the job's.
        outcome: what its processes could say themselves.
        folder: of the logs.
        identity: of the job.
    """
    if state in _STATES:
        return _STATES[state]
    if outcome:
        return str(outcome)
    if problem := _unwritable(folder):
        return problem
    texts = _last_attempt(folder, identity)
    for pattern, reason in _KILLED.items():
        if any(re.search(pattern, text) for text in texts):
            return reason
    return "killed without a word" if state == "GONE" else state.lower()


def bad_node(outcome: Outcome | None, reason: str, nodes: str) -> str:
    """The node that made a job end, by Slurm's name; empty where it was not, or which is unknown.

    Args:
        outcome: what the job's processes could say themselves.
        reason: as :func:`explain` gave it.
        nodes: all that the job had, as Slurm lists them.
    """
    if outcome and outcome.node:
        return outcome.node
    alone = "[" not in nodes and "," not in nodes
    return nodes if alone and reason in (_NODE_FAILURE, _BROKEN_GPU) else ""


def _unwritable(folder: Path) -> str:
    """Why nothing can be written to a folder, if that is so: the log could not say it either."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"x" * _PROBE)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f"nothing can be written to {folder}: {error.strerror or error}"
    return ""


def last_lines(folder: Path, identity: str) -> str:
    """The end of rank 0's log, indented."""
    texts = _last_attempt(folder, identity)
    return "\n".join(f"  {line}" for line in _shown(texts[0] if texts else "")[-_LINES:])


def _last_attempt(folder: Path, identity: str) -> list[str]:
    """What every rank has said since it was started last."""
    paths = sorted(
        folder.glob(f"{identity}_*_log.out"), key=lambda path: int(path.name.split("_")[1])
    )
    return [path.read_text(errors="replace").rpartition(_BEGIN)[2] for path in paths]


def _shown(text: str) -> list[str]:
    lines = [line for line in text.splitlines()[1:] if not line.startswith(_NOTICE)]
    lines = [line for line in lines if line.strip() and not line.startswith(("srun:", "slurmstep"))]
    return lines or ["(nothing)"]
