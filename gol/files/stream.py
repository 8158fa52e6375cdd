"""Large JSON files, read a run of entries at a time.

pydantic's reader takes half the time of Python's and makes the same values; what it refuses is left
to Python's, whose word counts.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Generator, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, TextIO

from pydantic_core import from_json

from gol.errors import UserError
from gol.files import read_hashed_json, read_json, uncollected
from gol.files.digests import check_seal

Shrink = Callable[[list], list]

_WINDOW = 1 << 20  # characters to decode at once
_LONGEST = 16 << 20  # characters of one entry
_TRIES = 20  # braces from the end of the window that may begin an entry
_SPACE = re.compile(r"[ \t\n\r]*")
_BETWEEN = re.compile(r"\}[ \t\n\r]{0,20},[ \t\n\r]{0,20}\Z")  # two objects of a list
_decode = json.JSONDecoder().raw_decode


class _Reader:
    """JSON in a window that moves on; all that is wrong is a ValueError or a RecursionError."""

    def __init__(self, text: TextIO) -> None:
        self.text, self.window, self.place = text, "", 0

    def rest(self) -> str:
        """What was read and not used."""
        return self.window[self.place :]

    def peek(self) -> str:
        """The next character that is no space."""
        while True:
            self.place = _SPACE.match(self.window, self.place).end()
            if self.place < len(self.window):
                return self.window[self.place]
            self._more()

    def take(self, allowed: str) -> str:
        """The next character, which must be one of some."""
        if (character := self.peek()) not in allowed:
            raise ValueError(f"expected one of {allowed}")
        self.place += 1
        return character

    def value(self, ends: str) -> Any:
        """The next value; that one of some characters follows says that it is whole."""
        while True:
            self.peek()
            try:
                value, end = _decode(self.window, self.place)
                end = _SPACE.match(self.window, end).end()
                if self.window.startswith(tuple(ends), end):
                    self.place = end
                    return value
            except ValueError:  # cut off by the window; or a number too long for Python
                pass
            self._more()

    def runs(self) -> Iterator[list]:
        """The entries of the list whose bracket was taken, as many at once as the window has."""
        if self.peek() == "]":
            self.place += 1
            return
        while True:
            if run := self._run():
                yield run
            window = self.window
            while self.window is window:
                yield [self.value(",]")]
                if self.take(",]") == "]":
                    return

    def finish(self) -> None:
        """Refuses what follows."""
        if not _SPACE.fullmatch(self.rest() + self.text.read()):
            raise ValueError("more follows")

    def _run(self) -> list:
        """The objects that the window has whole; none if that is not clear at once."""
        end = len(self.window)
        for _ in range(_TRIES):
            if (end := self.window.rfind("{", self.place, end)) < 0:
                break
            if not (between := _BETWEEN.search(self.window, max(self.place, end - 50), end)):
                continue
            try:  # only where it ends between two entries it is JSON with brackets around it
                run = from_json(f"[{self.window[self.place : between.start() + 1]}]")
            except ValueError:
                break
            self.place = end
            return run
        return []

    def _more(self) -> None:
        begun = len(self.window) - self.place
        more = self.text.read(_WINDOW) if begun <= _LONGEST else ""
        if not more:
            raise ValueError("the list is cut off or broken, or an entry is too long")
        self.window, self.place = self.rest() + more, 0


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
    reader = _Reader(text)
    for run in reader.runs():
        yield from run
    return reader.rest()


def read_json_list(path: str | Path, what: str) -> Iterator[Any]:
    """The entries of a JSON file that is one list; only few of them are in memory at a time.

    Args:
        path: the file.
        what: its entries, for the message.

    Raises:
        UserError: as :func:`gol.files.read_json`, or it is no list; perhaps after some entries.
    """
    return chain.from_iterable(read_json_runs(path, what))


def read_json_runs(path: str | Path, what: str) -> Iterator[list]:
    """As :func:`read_json_list`, some entries at a time, which is faster."""
    try:
        with open(path, "rb") as file:
            check_seal(path, file)
            reader = _Reader(io.TextIOWrapper(file, "utf-8-sig"))
            if reader.take("["):
                yield from reader.runs()
            reader.finish()
            return
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError):
        pass
    if isinstance(read_json(path), list):  # it says where a file is broken
        raise UserError(f"{path}: an entry has more than {_LONGEST:,} characters")
    raise UserError(f"{path}: expected a list of {what}")


def read_json_object(path: str | Path, shrink: Mapping[str, Shrink]) -> tuple[Any, str]:
    """A JSON file and its SHA-256, as from :func:`gol.files.read_hashed_json`, in less memory.

    Args:
        path: the file.
        shrink: where the file is an object, what is made of the entries of some of its lists, a
            run of them at a time.

    Raises:
        UserError: as :func:`gol.files.read_json`.
    """
    try:
        with uncollected(), open(path, "rb") as file:
            check_seal(path, file)
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            return _object(_Reader(io.TextIOWrapper(file, "utf-8-sig")), shrink), digest
    except (OSError, ValueError, RecursionError):
        data, digest = read_hashed_json(path)  # it says where a file is broken
    if isinstance(data, dict):
        lists = {key: data[key] for key in shrink if isinstance(data.get(key), list)}
        data |= {key: shrink[key](entries) for key, entries in lists.items()}
    return data, digest


def _object(reader: _Reader, shrink: Mapping[str, Shrink]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    reader.take("{")
    while True:
        if not isinstance(key := reader.value(":"), str):
            raise ValueError("a key must be a string")
        reader.take(":")
        if reader.peek() == "[":
            reader.take("[")
            made = shrink.get(key, list)
            found[key] = list(chain.from_iterable(map(made, reader.runs())))
        else:
            found[key] = reader.value(",}")
        if reader.take(",}") == "}":
            break
    reader.finish()
    return found
