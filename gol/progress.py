"""Progress of long work on stderr."""

import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

Item = TypeVar("Item")
_INTERVAL = 5  # seconds between two lines; shorter work prints none
_TERMINAL, _LOG = 0.2, 10.0  # the same for bytes, on a terminal and in a log

#: How lines of progress say how far it is (at least one of these) and what is left.
_PERCENT = re.compile(r"\b(\d+)%")
_COUNT = re.compile(r"\b([\d,]+)(?:/| of )([\d,]+)\b(?! ?[kMG]?B)")
_CLOCK = re.compile(r"\b(?:left|ETA) (?:(\d+) days?, )?(?:(\d+):)?(\d+):(\d\d)\b")
_SECONDS = re.compile(r"\b([\d,]+) s left\b")


class Progress(NamedTuple):
    """How far a line says that something is.

    Attributes:
        part: from 0 to 1.
        left: seconds, if it says that.
    """

    part: float
    left: float | None


def read_progress(line: str) -> Progress | None:
    """What a line of progress says; None for any other line.

    It knows what this package prints: ``3 of 1,000, 12 s left``, ``iteration 3/1000 … left
    0:00:12`` and ``1.0 GB of 19.3 GB  5%  ETA 3:20``.
    """
    left = None
    if match := _CLOCK.search(line):
        days, hours, minutes, seconds = (int(group or 0) for group in match.groups())
        left = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    elif match := _SECONDS.search(line):
        left = float(match[1].replace(",", ""))
    if left is None:
        return None
    if match := _PERCENT.search(line):
        return Progress(min(int(match[1]) / 100, 1.0), left)
    if match := _COUNT.search(line):
        done, total = (int(group.replace(",", "") or 0) for group in match.groups())
        return Progress(min(done / total, 1.0), left) if total else None
    return None


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Yields ``items`` and prints every few seconds how many of ``total`` are done."""
    begin = printed = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - printed > _INTERVAL:
            printed, left = now, (now - begin) / count * (total - count)
            line = f"{what}: {count:,} of {total:,}, {left:,.0f} s left"
            print(line, file=sys.stderr, flush=True)


class ByteProgress:
    """Percent, bytes, MB/s and time left; one line on a terminal, plain lines in a log.

    Args:
        name: what is being done.
        total: bytes in all, or None if unknown.
        start: bytes that were there already.
    """

    def __init__(self, name: str, total: int | None, start: int = 0) -> None:
        self.name, self.total, self.start, self.done = name, total, start, start
        self.terminal = sys.stderr.isatty()
        self.begin = self.printed = time.monotonic()
        self.lines = 0

    def __enter__(self) -> "ByteProgress":
        return self

    def __exit__(self, *_: object) -> None:
        # Work that takes next to no time leaves no trace in a log.
        if self.lines or self.terminal or time.monotonic() - self.begin > 1:
            self._print("\n")

    def add(self, count: int) -> None:
        """Reports ``count`` more bytes."""
        self.done += count
        if time.monotonic() - self.printed > (_TERMINAL if self.terminal else _LOG):
            self._print("" if self.terminal else "\n")

    def _print(self, end: str) -> None:
        self.printed = time.monotonic()
        self.lines += 1
        rate = (self.done - self.start) / max(self.printed - self.begin, 1e-6)
        text = f"{self.name}  {format_bytes(self.done)}"
        if self.total:
            left = (self.total - self.done) / rate if rate else 0
            text += f" of {format_bytes(self.total)}  {self.done / self.total:.0%}"
            text += f"  ETA {int(left // 60)}:{int(left % 60):02d}"
        text += f"  {rate / 1e6:.1f} MB/s"
        start = "\r\033[K" if self.terminal else ""
        print(start + text, end=end, file=sys.stderr, flush=True)


def format_bytes(count: int) -> str:
    """Bytes in decimal units, as disks and downloads are measured: 19.3 GB."""
    value = float(count)
    for unit in ("B", "kB", "MB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} GB"
