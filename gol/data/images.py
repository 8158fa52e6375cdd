"""Finding the image files of an annotation file and checking that they can be read."""

import os
from pathlib import Path
from typing import Any

from PIL import Image

_ORIENTATION, _SIDEWAYS = 0x0112, 5  # Exif tag; from this value on width and height are swapped
_ENDS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82"}
_TAIL = 1024  # bytes at the end of a file among which its end marker must be


def file_names(image: dict[str, Any]) -> list[str]:
    """Where an image's file may be, relative to the image folder, most likely place first.

    Its ``file_name``; then the folder and file of its ``coco_url`` (LVIS names no file, and its
    val split has images of COCO's train2017); then the file alone.
    """
    name, url = image.get("file_name"), image.get("coco_url")
    names = [name] if name and isinstance(name, str) else []
    if url and isinstance(url, str):  # pandas writes NaN for what is missing
        parts = url.split("/")
        names += ["/".join(parts[-2:]), parts[-1]]
    return names


def find_image(image: dict[str, Any], folder: Path) -> str | None:
    """The first of :func:`file_names` that exists in ``folder``, or None."""
    return next((name for name in file_names(image) if os.path.isfile(folder / name)), None)


def image_problem(path: Path, size: tuple[int, int], decode: bool) -> tuple[str, str] | None:
    """What is wrong with an image file, as (kind, detail), or None.

    Args:
        path: the file.
        size: width and height that it must have, in pixels, after it is turned as its Exif data
            says; OpenCV, and so mmdet, reads it turned.
        decode: decodes the image; otherwise only its header and its end are read, and the rest
            only if the end marker is not in its place.
    """
    try:
        with Image.open(path) as image:
            found = image.size
            if "exif" in image.info and image.getexif().get(_ORIENTATION, 1) >= _SIDEWAYS:
                found = found[::-1]
            if decode or not _has_end(path, image.format):
                image.draft("L", (1, 1))  # JPEG: reads all blocks, but computes 1/8 of the size
                image.load()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return "unreadable image file", f"{path}: {error}"
    if found != size:
        return "image of another size", "{} is {} x {}, not {} x {}".format(path, *found, *size)
    return None


def _has_end(path: Path, image_format: str | None) -> bool:
    """Whether the end marker is there; some cameras append data after it."""
    end = _ENDS.get(image_format or "")
    with open(path, "rb") as file:
        file.seek(max(0, os.path.getsize(path) - _TAIL))
        return end is not None and end in file.read()
