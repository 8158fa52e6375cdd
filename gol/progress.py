"""Progress of long work on stderr."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
_INTERVAL = 5  # seconds between two lines; shorter work prints none


def progress(items: Iterable[Item], what: str, total: int) -> Iterator[Item]:
    """Passes ``items`` on and says every few seconds how many of ``total`` are done."""
    begin = printed = time.monotonic()
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - printed > _INTERVAL:
            printed, left = now, (now - begin) / count * (total - count)
            line = f"{what}: {count:,} of {total:,}, {left:,.0f} s left"
            print(line, file=sys.stderr, flush=True)
