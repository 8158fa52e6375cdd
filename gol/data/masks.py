"""Instance masks as polygons and run lengths (RLE), the two forms that LVIS and COCO store."""

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from gol.data.packing import Packed

_LONGEST = 8  # characters of a run in compressed counts: more pixels than any image has


def mask_to_polygons(mask: np.ndarray) -> list[list[int]]:
    """Polygons along the pixel edges of ``mask``, which rasterise back to exactly ``mask``.

    A part with a hole, which a COCO polygon cannot express, is cut in two through the hole.

    Args:
        mask: (height, width) bool or uint8, not zero inside the object.

    Returns:
        Flat lists ``[x0, y0, x1, y1, ...]`` in pixels; (0, 0) is the image's top left corner.
    """
    return _outlines(mask.astype(np.uint8), 0, 0)


def _outlines(mask: np.ndarray, left: int, top: int) -> list[list[int]]:
    """Polygons of ``mask``, whose first pixel is pixel (left, top) of the image."""
    x, y, width, height = cv2.boundingRect(mask)
    crop = mask[y : y + height, x : x + width]
    left, top = left + x, top + y
    count, labels, boxes, _ = cv2.connectedComponentsWithStats(crop, connectivity=4)
    polygons = []
    for label in range(1, count):
        x, y, width, height = boxes[label, :4].tolist()
        part = (labels[y : y + height, x : x + width] == label).astype(np.uint8)
        polygons += _outline(part, left + x, top + y)
    return polygons


def _outline(part: np.ndarray, left: int, top: int) -> list[list[int]]:
    """Polygons of one connected part that fills its array from edge to edge."""
    # findContours runs through pixel centres. At twice the size pixel i covers 2i and 2i+1, so
    # (c + 1) // 2 maps a border pixel c to the pixel edge that it touches: 2i -> i, 2i+1 -> i+1.
    double = part.repeat(2, axis=0).repeat(2, axis=1)
    contours, tree = cv2.findContours(double, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    holes = [points for points, node in zip(contours, tree[0], strict=True) if node[3] >= 0]
    if holes:
        # a hole's contour runs through the object's pixels around it: its middle is in the hole
        cut = (int(holes[0][:, 0, 0].min()) + int(holes[0][:, 0, 0].max()) + 1) // 4
        return _outlines(part[:, :cut], left, top) + _outlines(part[:, cut:], left + cut, top)
    points = (contours[0][:, 0] + 1) // 2 + (left, top)
    steps = np.diff(points, axis=0, append=points[:1])
    moved = steps.any(1)
    points, steps = points[moved], steps[moved]
    before = np.concatenate([steps[-1:], steps[:-1]])
    corners = points[(before[:, 0] == 0) != (steps[:, 0] == 0)]
    return [corners.ravel().tolist()]


def run_lengths(counts: str | bytes | list[int]) -> list[int]:
    """Run lengths of an RLE's ``counts``: pixels outside, inside, outside, ... down the columns.

    pycocotools reads past the end of truncated counts and returns rubbish, hence this reader.
    The compressed form holds 5 bits a character (offset 48, 0x20: more follow, 0x10: the sign);
    from the fourth run on it stores the difference to the run two before.

    Raises:
        ValueError: the counts are malformed.
    """
    if isinstance(counts, list):
        if not all(type(run) is int and run >= 0 for run in counts):
            raise ValueError("counts must be whole numbers >= 0")
        return counts
    return _decoded(counts).tolist()


def _decoded(counts: str | bytes) -> np.ndarray:
    data = counts.encode("latin-1") if isinstance(counts, str) else counts
    characters = np.frombuffer(data, np.uint8)
    bits = characters - 48  # below 48 it wraps around
    if (wrong := bits >= 64).any():
        raise ValueError(f"counts hold the character {chr(characters[wrong][0])!r}")
    last = np.flatnonzero(bits < 32)  # characters of the runs
    number = np.diff(last, prepend=-1)
    if number.max(initial=0) > _LONGEST:
        raise ValueError(f"counts hold a run of more than {5 * _LONGEST} bits")
    first = last - number + 1
    shift = 5 * (np.arange(number.sum()) - np.repeat(first, number))
    runs = (bits[: len(shift)] & 31).astype(np.int64) << shift
    runs = np.add.reduceat(runs, first) if len(runs) else runs
    runs -= (bits[last] >> 4 & 1).astype(np.int64) << 5 * number
    runs[1::2], runs[2::2] = np.cumsum(runs[1::2]), np.cumsum(runs[2::2])
    if len(shift) < len(bits) or runs.min(initial=0) < 0:
        raise ValueError("counts are cut off or hold a negative run")
    return runs


def spans(segmentation: Any, height: int, width: int) -> np.ndarray:
    """A mask as pieces of columns, whose number grows with its outline and not with its area.

    Args:
        segmentation: COCO polygons, or an RLE, compressed or not.
        height: rows of the image.
        width: columns of the image.

    Returns:
        (S, 3) int32: column, first row and the row after the last, from left to right and down.

    Raises:
        ValueError: an RLE is malformed or of another size.
    """
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
    counts = segmentation["counts"]
    runs = run_lengths(counts) if isinstance(counts, list) else _decoded(counts)
    edges = np.cumsum(runs, dtype=np.int64)
    if list(segmentation["size"]) != [height, width] or edges[-1:].tolist() != [height * width]:
        raise ValueError(f"an RLE is not of {width} x {height} px")
    begin, end = edges[: len(edges) // 2 * 2].reshape(-1, 2).T
    begin, end = begin[end > begin], end[end > begin]
    first = begin // height
    number = (end - 1) // height - first + 1
    run = np.repeat(np.arange(len(begin)), number)
    column = np.arange(len(run)) - (np.cumsum(number) - number - first)[run]
    top = np.maximum(begin[run] - column * height, 0)
    bottom = np.minimum(end[run] - column * height, height)
    return np.stack([column, top, bottom], 1).astype(np.int32)


def mask_area(segmentation: Any, height: int, width: int) -> int:
    """Number of pixels inside a checked COCO ``segmentation`` (polygons or RLE)."""
    if isinstance(segmentation, dict):
        return sum(run_lengths(segmentation["counts"])[1::2])
    if isinstance(segmentation, Packed):
        segmentation = segmentation.polygons()
    return int(coco_mask.area(coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))))


def compress_rle(segmentation: dict[str, Any]) -> dict[str, Any]:
    """The RLE with its ``counts`` as a compressed string, the form that JSON holds best."""
    if isinstance(segmentation["counts"], list):
        height, width = segmentation["size"]
        segmentation = coco_mask.frPyObjects(segmentation, height, width)
    counts = segmentation["counts"]
    return {
        "size": list(segmentation["size"]),
        "counts": counts.decode("ascii") if isinstance(counts, bytes) else counts,
    }
