"""A user without a name or a home, as containers have them, must not stop libraries that ask."""

import atexit
import os
import pwd
import shutil
import stat
import tempfile
from contextlib import suppress
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
    if not (folder := private_folder()):
        return
    if "MPLCONFIGDIR" not in os.environ:
        _LENT["MPLCONFIGDIR"] = folder
    if not home.is_absolute():
        _LENT["HOME"] = folder
    os.environ.update(_LENT)


def lent() -> list[str]:
    """Variables that name a folder of this machine alone: they are no business of a job's."""
    return [name for name, folder in _LENT.items() if os.environ.get(name) == folder]


def is_private(folder: Path) -> bool:
    """Whether a folder, no link to one, is this user's and nobody else's."""
    state = folder.lstat()
    ours = stat.S_ISDIR(state.st_mode) and state.st_uid == os.getuid()
    return ours and not state.st_mode & 0o077


def private_folder() -> str:
    """This user's own folder for all processes of this machine; empty where there can be none.

    Where its name is taken by something else, this process gets a folder that goes with it.
    """
    try:
        folder = Path(tempfile.gettempdir(), f"gol-{os.getuid()}")
        with suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        if is_private(folder):
            return str(folder)
        own = tempfile.mkdtemp(prefix=f"{folder.name}-")
    except OSError:
        return ""
    atexit.register(shutil.rmtree, own, ignore_errors=True)
    return own
