"""The exceptions that the command line turns into text and an exit code."""

from collections.abc import Mapping
from typing import Any


class UserError(Exception):
    """Bad input or a full disk: one line that names what is wrong and what is allowed."""


class LostJobError(UserError):
    """A process or its machine is gone, or the others did not come: trying again may help."""


class PeerError(UserError):
    """Another rank of the job failed; it is the one that says why on the command line."""


class JobFailed(Exception):
    """A job that failed as often as it may: why, and the last lines of its log; exit code 1."""


class Interrupted(Exception):
    """SIGUSR2 asked the work to stop; the same command continues it; exit code 75."""


def choices(names: object) -> str:
    """The allowed names as one readable phrase, for an error message."""
    return ", ".join(str(name) for name in names)  # type: ignore[attr-defined]


def pick(kind: str, name: Any, allowed: Mapping[str, Any]) -> Any:
    """The value of ``name``; a UserError lists the allowed names if there is none."""
    if not isinstance(name, str) or name not in allowed:
        raise UserError(f"unknown {kind} '{name}'; allowed: {choices(allowed)}")
    return allowed[name]
