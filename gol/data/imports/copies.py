"""Pictures that are one file under several names, which must not be on both sides of a split."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from contextlib import suppress
from pathlib import Path

from gol.errors import UserError
from gol.files.digests import sha256

_TAIL = 4096  # bytes; the end of a compressed picture is hardly ever another one's


def copies(paths: Iterable[Path]) -> dict[Path, Path]:
    """Each file that has the same content as an earlier one → the first of these.

    Only files of equal size and end are read wholly; those that cannot be read are passed over.
    """
    groups = [list(dict.fromkeys(paths))]
    for key in (os.path.getsize, _tail, sha256):
        groups = [part for group in groups for part in _parts(group, key)]
    return {path: first for first, *others in groups for path in others}


def _parts(group: list[Path], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Those of a group that share a key with another."""
    parts: dict[Hashable, list[Path]] = defaultdict(list)
    for path in group:
        with suppress(OSError, UserError):
            parts[key(path)].append(path)
    return [part for part in parts.values() if len(part) > 1]


def _tail(path: Path) -> bytes:
    with open(path, "rb") as file:
        file.seek(-min(_TAIL, os.path.getsize(path)), os.SEEK_END)
        return file.read()
