"""Damage to a file is noticed when the file is read: digests beside files and within lines.

A whole file that a later step reads has its SHA-256 beside it, in a hidden file that
``sha256sum -c`` reads too. A file without one is as good as it says: an older version wrote it, or
somebody else, or a crash came between the two.
"""

import hashlib
import json
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gol.errors import UserError

_SEAL = "{digest}  {name}\n# {size} bytes, written by `{writer}`\n"
_SEALED = re.compile(r"([0-9a-f]{64})  .+\n# (\d{1,18}) bytes, written by `([a-z ]{1,40})`\n")
_LINE = re.compile(r'(.*), "crc32": "([0-9a-f]{8})"\}')


def seal_path(path: str | Path) -> Path:
    """Where the digest of a file is kept."""
    path = Path(path)
    return path.with_name(f".{path.name}.sha256")


def seal(path: Path, content: Path, writer: str) -> str:
    """The text to keep beside a file.

    Args:
        path: the file's name.
        content: where its content is now.
        writer: the command that writes it.
    """
    size, digest = content.stat().st_size, sha256(content)
    return _SEAL.format(digest=digest, name=path.name, size=size, writer=writer)


def sha256(path: str | Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error


def check_seal(path: str | Path, file: BinaryIO) -> None:
    """Compares a file with the digest beside it, if there is one.

    A file of another size is somebody's own, put in the place of ours: damage either keeps the size
    or cuts the end off, which every reader of JSON notices.

    Args:
        path: the file's name.
        file: the file, opened at its beginning, where it is left.

    Raises:
        UserError: the content is not what was written.
        OSError: it cannot be read.
    """
    try:
        text = seal_path(path).read_text(encoding="ascii")
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    known, found = _SEALED.fullmatch(text), os.fstat(file.fileno())
    if known is None or int(known[2]) != found.st_size:
        return
    digest = hashlib.file_digest(file, "sha256").hexdigest()
    file.seek(0)
    # If another process has replaced the file since it was opened, the digest is the new one's.
    if digest != known[1] and os.path.samestat(found, os.stat(path)):
        raise UserError(
            f"{path} is damaged, or was edited after `{known[3]}` wrote it: remove it and run that "
            f"again, or remove {seal_path(path).name} beside it to use the file as it is"
        )


def sealed_line(entry: dict[str, Any]) -> str:
    """One line of a log, with a checksum of its own as the last key; NaN is refused."""
    text = json.dumps(entry, allow_nan=False)
    return f'{text[:-1]}, "crc32": "{_checksum(text)}"}}\n'


def log_lines(path: str | Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """The lines of a log of JSON objects, and what each holds: None for a damaged one.

    A last line that was cut short is what a killed process leaves behind, and is left out.

    Raises:
        UserError: the file cannot be read.
    """
    try:
        text = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    *lines, last = text.split("\n")
    if _LINE.match(last):  # cut off is, at most, the line feed
        lines.append(last)
    for line in lines:
        yield line, _content(line)


def _content(line: str) -> dict[str, Any] | None:
    sealed = _LINE.fullmatch(line)
    if sealed and sealed[2] != _checksum(sealed[1] + "}"):
        return None
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(entry, dict):
        return None
    entry.pop("crc32", None)
    return entry


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
