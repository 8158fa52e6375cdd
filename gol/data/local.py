"""Folders of images that have a copy on this machine's own disk, which is read in their place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_copies: dict[str, list[str]] = {}  # of this process: absolute path of a folder to its copies


@contextmanager
def read_from(folder: Path, copy: Path) -> Iterator[None]:
    """This process and those that it forks read images from the copy of a folder.

    A folder may have several copies, each of the images that another annotation file names.
    """
    original = os.path.abspath(folder)
    _copies.setdefault(original, []).append(str(copy))
    try:
        yield
    finally:
        _copies[original].remove(str(copy))


def nearest(folder: str | None, name: str) -> str | None:
    """The folder that an image is read from: the copy that has it, else its own."""
    copies = _copies.get(os.path.abspath(folder), ()) if _copies and folder else ()
    there = (copy for copy in copies if os.path.isfile(os.path.join(copy, name)))
    return next(there, folder)
