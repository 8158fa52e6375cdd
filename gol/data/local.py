"""Folders of images that have a copy on this machine's own disk, which is read in their place."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_copies: dict[str, str] = {}  # of this process: absolute path of a folder to its copy


@contextmanager
def read_from(folder: Path, copy: Path) -> Iterator[None]:
    """This process and those that it forks read images from the copy of a folder."""
    original = os.path.abspath(folder)
    _copies[original] = str(copy)
    try:
        yield
    finally:
        _copies.pop(original, None)


def nearest(folder: str | None, name: str) -> str | None:
    """The folder that an image is read from: the copy if it is there, else its own."""
    copy = _copies.get(os.path.abspath(folder)) if _copies and folder else None
    return copy if copy and os.path.isfile(os.path.join(copy, name)) else folder
