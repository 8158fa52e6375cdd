"""Who trains, and with which code."""

import getpass
import subprocess
from contextlib import suppress
from functools import cache
from pathlib import Path

import gol

_SECONDS = 10  # a file system that hangs must not hold up a training


@cache
def provenance() -> dict[str, str]:
    """The user, and the ``commit`` of the checkout that this package is in, if it is in one.

    Where a file of the checkout that git knows was changed, ``dirty`` is ``true``. What cannot be
    found out is left out.
    """
    found = {}
    with suppress(OSError, KeyError, ImportError):
        found["user"] = getpass.getuser()
    with suppress(OSError, subprocess.SubprocessError):
        if _git("ls-files", "__init__.py"):  # not the repository of somebody's environment
            found["commit"] = _git("rev-parse", "HEAD")
            found["dirty"] = "true" if _git("status", "--porcelain", "-uno") else "false"
    return found


def _git(*arguments: str) -> str:
    """What git says of the package's folder."""
    command = ["git", "--no-optional-locks", *arguments]
    return subprocess.run(
        command,
        cwd=Path(gol.__file__).parent,
        check=True,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
    ).stdout.strip()
