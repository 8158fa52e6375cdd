"""JSON lists of any length, read an entry at a time."""

import io
import json
import re
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any, TextIO

from gol.errors import UserError
from gol.files import read_json
from gol.files.digests import check_seal

_SPACE = re.compile(r"\s*")
_WINDOW = 1 << 20  # characters to decode at once
_LONGEST = 16 << 20  # characters of one entry


def list_items(text: TextIO) -> Generator[Any, None, str]:
    """The entries of a JSON list, one after the other.

    Args:
        text: positioned behind the opening bracket.

    Returns:
        What was read beyond the closing bracket.

    Raises:
        ValueError: the list is cut off or broken, or an entry has more than 16 million characters.
        RecursionError: an entry is nested too deeply.
    """
    decode, window, position = json.JSONDecoder().raw_decode, "", 0
    empty = True
    while True:
        try:
            position = _SPACE.match(window, position).end()
            if empty and window.startswith("]", position):
                return window[position + 1 :]
            entry, end = decode(window, position)
            end = _SPACE.match(window, end).end()
            whole = window.startswith((",", "]"), end)
        except ValueError:  # cut off by the window; or a number too long for Python
            whole = False
        if whole:
            yield entry
            if window[end] == "]":
                return window[end + 1 :]
            position, empty = end + 1, False
            continue
        more = text.read(_WINDOW) if len(window) - position <= _LONGEST else ""
        if not more:
            raise ValueError("the list is cut off or broken, or an entry is too long")
        window, position = window[position:] + more, 0


def read_json_list(path: str | Path, what: str) -> Iterator[Any]:
    """The entries of a JSON file that is one list; only one of them is in memory at a time.

    Args:
        path: the file.
        what: its entries, for the message.

    Raises:
        UserError: as :func:`gol.files.read_json`, or it is no list; perhaps after some entries.
    """
    try:
        with open(path, "rb") as file:
            check_seal(path, file)
            text = io.TextIOWrapper(file, "utf-8-sig")
            begin = text.read(1)
            while begin.isspace():
                begin = text.read(1)
            if begin == "[":
                rest = yield from list_items(text)
                if not (rest + text.read()).strip():
                    return
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        pass
    if isinstance(read_json(path), list):  # it says where a file is broken
        raise UserError(f"{path}: an entry has more than {_LONGEST:,} characters")
    raise UserError(f"{path}: expected a list of {what}")
