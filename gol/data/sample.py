"""A sample of the images that an annotation file names, without holding gigabytes in memory."""

import io
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from gol.errors import UserError
from gol.files.stream import list_items

# A quote within a JSON string is escaped, so that this cannot stand in one.
_LIST = re.compile(rb'"images"\s*:\s*\[\s*(?=[{\]])')
_BLOCK = 1 << 24  # bytes to search at once
_OVERLAP = 1000  # bytes within which the pattern is, and what follows the last brace


def sample_images(annotations: Path, count: int) -> list[dict[str, Any]]:
    """Some entries of a COCO or LVIS JSON's list of images, each as likely as any other.

    Args:
        annotations: the JSON file.
        count: entries to draw.

    Returns:
        The entries; all of them where there are no more than ``count``.

    Raises:
        UserError: there is no list of images, it is broken, or the file is cut off.
    """
    rng, sample = random.Random(0), []
    for seen, image in enumerate(_images(annotations)):  # reservoir sampling, Vitter's algorithm R
        if seen < count:
            sample.append(image)
        elif (place := rng.randrange(seen + 1)) < count:
            sample[place] = image
    return sample


def _images(path: Path) -> Iterator[dict[str, Any]]:
    """The entries of the list of images, one after the other."""
    with open(path, "rb") as file:
        file.seek(_begin(file, path))
        try:
            for entry in list_items(io.TextIOWrapper(file, "utf-8", errors="replace")):
                if not isinstance(entry, dict):
                    raise UserError(f"{path}: an entry of its list of images is not an object")
                yield entry
        except RecursionError as error:
            raise UserError(f"{path}: an image's entry is nested too deeply") from error
        except ValueError as error:
            raise UserError(f"{path} is cut off or broken in its list of images") from error


def _begin(file: BinaryIO, path: Path) -> int:
    """Where the first image's entry begins."""
    window, position = b"", 0
    while block := file.read(_BLOCK):
        window = window[-_OVERLAP:] + block
        position += len(block)
        if found := _LIST.search(window):
            begin = position - len(window) + found.end()
            file.seek(-min(_OVERLAP, path.stat().st_size), os.SEEK_END)
            if file.read().rstrip().endswith(b"}"):
                return begin
            break
    raise UserError(f"{path} has no list of images, or is cut off")
