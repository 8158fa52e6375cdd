"""Shapes of labelling tools as segmentations of the COCO schema."""

import math
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from gol.data.images import MOST_PIXELS
from gol.data.imports.values import numbers
from gol.data.objects import LONGEST_SIDE

_CORNERS = 64  # of the polygon that stands for an ellipse


def flat(points: Any) -> list[float] | None:
    """``[[x, y], ...]`` as ``[x, y, ...]``; None if these are not finite numbers."""
    if not isinstance(points, list | tuple):
        return None
    pairs = [numbers(point) for point in points]
    if any(pair is None or len(pair) != 2 for pair in pairs):
        return None
    return [value for pair in pairs for value in pair]  # type: ignore[union-attr]


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0) -> list[float]:
    """The polygon of an ellipse with its middle at (x, y), turned by ``turn`` radians."""
    angles = np.linspace(0, 2 * math.pi, _CORNERS, endpoint=False)
    across, down = rx * np.cos(angles), ry * np.sin(angles)
    xs = x + across * math.cos(turn) - down * math.sin(turn)
    ys = y + across * math.sin(turn) + down * math.cos(turn)
    return np.stack([xs, ys], 1).ravel().tolist()


def box(x0: float, y0: float, x1: float, y1: float) -> list[float]:
    """``bbox`` of the COCO schema from two opposite corners."""
    return [min(x0, x1), min(y0, y1), abs(x1 - x0), abs(y1 - y0)]


def iou(one: list[float], other: list[float]) -> float:
    """Intersection over union of two boxes of the COCO schema."""
    sides = [
        max(0.0, min(one[i] + one[i + 2], other[i] + other[i + 2]) - max(one[i], other[i]))
        for i in (0, 1)
    ]
    both = sides[0] * sides[1]
    return both / max(one[2] * one[3] + other[2] * other[3] - both, 1e-9)


def check_place(left: int, top: int, columns: int, rows: int, width: int, height: int) -> None:
    """Refuses a part of an image that is not within it, before anything of its size is made.

    Raises:
        ValueError: it is not, or the image is larger than any that can be read.
    """
    if max(width, height) > LONGEST_SIDE or width * height > MOST_PIXELS:
        raise ValueError(f"{width} x {height} px are more than any image may have")
    if min(left, top, columns, rows) < 0 or left + columns > width or top + rows > height:
        raise ValueError(f"{columns} x {rows} px at ({left}, {top}) in {width} x {height} px")


def pasted(part: np.ndarray, left: int, top: int, width: int, height: int) -> dict[str, Any]:
    """The RLE of an image that is empty but for ``part``, (rows, columns), whose corner is given.

    Raises:
        ValueError: the part does not lie within the image.
    """
    rows, columns = part.shape
    check_place(left, top, columns, rows, width, height)
    whole = np.zeros((height, width), np.uint8, order="F")
    whole[top : top + rows, left : left + columns] = part != 0
    return {"size": [height, width], "counts": coco_mask.encode(whole)["counts"].decode("ascii")}
