"""A user without a name or a home, as containers have them, must not stop libraries that ask."""

import atexit
import os
import pwd
import shutil
import tempfile
from pathlib import Path


def supply_home() -> None:
    """Gives this process and its children a user name and a home where the system has none.

    A home that cannot be written keeps its place, since weights may lie there to be read; only
    matplotlib, which complains otherwise, gets a folder for this process.
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
    folder = tempfile.mkdtemp(prefix="gol-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ.setdefault("MPLCONFIGDIR", folder)
    if not home.is_absolute():
        os.environ["HOME"] = folder
