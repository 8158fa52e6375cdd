"""A user without a name or a home, as containers have them, must not stop libraries that ask."""

import os
import pwd
import stat
import tempfile
from pathlib import Path

_LENT: dict[str, str] = {}  # variables that were set here


def supply_home() -> None:
    """Gives this process and its children a user name and a home where the system has none.

    A home that cannot be written keeps its place, since weights may lie there to be read; only
    matplotlib, which complains otherwise, gets a folder.
    """
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        os.environ.setdefault("LOGNAME", f"user{os.getuid()}")
    home = Path(os.path.expanduser("~"))
    if home.is_absolute() and os.access(home, os.W_OK):
        return
    if home.is_absolute() and "MPLCONFIGDIR" in os.environ:
        return
    if not (folder := _private_folder()):
        return
    if "MPLCONFIGDIR" not in os.environ:
        _LENT["MPLCONFIGDIR"] = folder
    if not home.is_absolute():
        _LENT["HOME"] = folder
    os.environ.update(_LENT)


def lent() -> list[str]:
    """Variables that name a folder of this machine alone: they are no business of a job's."""
    return [name for name, folder in _LENT.items() if os.environ.get(name) == folder]


def _private_folder() -> str:
    """This user's own folder for all processes of this machine; empty where there can be none."""
    try:
        folder = Path(tempfile.gettempdir(), f"gol-{os.getuid()}")
        folder.mkdir(mode=0o700, exist_ok=True)
        state = folder.lstat()
    except OSError:
        return ""
    ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid()
    return str(folder) if ours and not state.st_mode & 0o077 else ""
