"""A sample of the images that an annotation file names, without parsing gigabytes."""

import json
import mmap
import random
from contextlib import suppress
from pathlib import Path
from typing import Any

_KEYS = (b'"coco_url"', b'"file_name"')


def sample_images(annotations: Path, count: int) -> list[dict[str, Any]]:
    """Some image entries of a COCO or LVIS JSON, from all over its list of images.

    An image entry has no braces within, so that it can be cut out wherever one of its keys stands.

    Args:
        annotations: the JSON file.
        count: entries to draw; fewer are returned where one is drawn twice.

    Returns:
        The entries; none if the file has no image or does not end as JSON does.
    """
    if not annotations.stat().st_size:
        return []
    rng, images = random.Random(0), {}
    with (
        open(annotations, "rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
    ):
        if text[-100:].rstrip()[-1:] != b"}":
            return []
        key = next((key for key in _KEYS if text.find(key) >= 0), None)
        if key is None:
            return []
        first = text.find(key)
        last = text.find(b"}", text.rfind(key))
        for _ in range(count):
            position = text.rfind(key, first, max(rng.randint(first, last), first + len(key)))
            begin, end = text.rfind(b"{", 0, position), text.find(b"}", position) + 1
            with suppress(ValueError):  # an entry of one's own may have braces within after all
                images[begin] = json.loads(text[begin:end])
    return list(images.values())
