"""One object's mask, box and area: complete, within its image, in the COCO schema."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from pycocotools import mask as coco_mask

from gol.data.imports import shapes
from gol.data.imports.values import number, numbers, whole
from gol.data.masks import compress_rle, mask_area, run_lengths
from gol.errors import shown

_OUTSIDE, _LEAST = 0.01, 2  # share of a side, and pixels, that a mouse or rounding explains
_APART, _NEAR, _EQUAL = 0.5, 0.9, 0.95  # IoU of a box and that around its mask
_THIN = 2  # px of a side below which a mask may be without a pixel

Mask = list[list[float]] | dict[str, Any]


@dataclass(frozen=True)
class Place:
    """Where an object is.

    Attributes:
        size: width and height of the image in pixels.
        scale: factors for the annotation's x and y, or None.
        boxes: whether a box without a mask becomes one or is dropped; None: an error.
        found: called with the kind of everything that is found, and details.
        computed: whether the format states boxes and areas, whose lack is then worth a word.
    """

    size: tuple[int, int]
    scale: tuple[float, float] | None
    boxes: Literal["rectangles", "drop"] | None
    found: Callable[[str, str], None]
    computed: bool


def repair_object(entry: dict[str, Any], place: Place) -> dict[str, Any] | None:
    """``bbox``, ``area`` and ``segmentation`` of an annotation, or None if it has to be left out.

    Args:
        entry: the annotation, with ``segmentation``, ``bbox`` or both; ``corners`` may be the
            polygon of a turned box, unless ``place.computed``, where it is a foreign key.
        place: its image.
    """
    box, mask = numbers(entry.get("bbox")), entry.get("segmentation")
    box = box if box and len(box) == 4 else None
    if isinstance(mask, list):
        mask = [part for part in mask if part != []]
    if isinstance(mask, dict) and mask:
        mask = _rle(mask, place)
    elif mask:
        mask = _polygons(mask, place)
    elif box is None and entry.get("bbox"):
        place.found("malformed mask", f"has bbox {shown(entry['bbox'])} and no mask")
    elif box is None:
        place.found("annotation without box and mask", "")
    else:
        mask = _rectangle(entry, box, place)
    return _within(mask, box, number(entry.get("area")), place) if mask else None


def _rectangle(entry: dict[str, Any], box: list[float], place: Place) -> Mask | None:
    if place.boxes is None:
        place.found("boxes without masks", "")
    elif place.boxes == "drop":
        place.found("box without a mask", "")
    else:
        place.found("box taken as a mask", "")
        x, y, w, h = box
        corners = None if place.computed else entry.get("corners")
        return [corners or [x, y, x + w, y, x + w, y + h, x, y + h]]
    return None


def _rle(raw: dict[str, Any], place: Place) -> Mask | None:
    counts, stated, size = raw.get("counts"), raw.get("size"), [*place.size[::-1]]
    if isinstance(stated, list) and [whole(side) for side in stated] != size:
        detail = f"has size {shown(stated)}, not {size}"
        place.found("image of another size with an RLE mask", detail)
        return None
    try:
        if isinstance(counts, list):
            counts = [whole(run) for run in counts]
        if not isinstance(counts, str | list):
            raise ValueError(f"has counts {shown(counts)}")
        runs = run_lengths(counts)
        if sum(runs) != size[0] * size[1]:
            raise ValueError(f"covers {shown(sum(runs))} pixels, not {size[0] * size[1]}")
    except ValueError as error:
        place.found("malformed mask", str(error))
        return None
    return compress_rle({"size": size, "counts": counts})


def _polygons(raw: Any, place: Place) -> Mask | None:
    if isinstance(raw, list) and (not isinstance(raw[0], list) or _are_points(raw)):
        raw = [raw]
        place.found("polygon that was not in a list", "")
    polygons = []
    for points in raw if isinstance(raw, list) else [raw]:
        if isinstance(points, list) and _are_points(points):
            points = [value for pair in points for value in pair]  # [[x, y], ...]
        polygon = numbers(points)
        if polygon is None or len(polygon) % 2:
            place.found("malformed mask", f"has {shown(points)}")
            return None
        polygons.append(polygon)
    kept = [polygon for polygon in polygons if len(polygon) >= 6]
    if not kept:
        place.found("object without an area", "has no polygon of three points")
    elif len(kept) < len(polygons):
        place.found("polygon without three points", "")
    return kept or None


def _are_points(values: list[Any]) -> bool:
    """Whether this is ``[[x, y], ...]``; no polygon has two numbers only."""
    return all(isinstance(value, list) and len(value) == 2 and numbers(value) for value in values)


def _within(
    mask: Mask, box: list[float] | None, area: float | None, place: Place
) -> dict[str, Any] | None:
    """Mask and box scaled and clipped; what is missing is computed."""
    bounds = _bounds(mask)
    box = _fitting(box, bounds, place)
    polygons = mask if isinstance(mask, list) else []
    corners = [[box[0], box[1], box[0] + box[2], box[1] + box[3]]] if box else []
    parts = [*polygons, *corners]
    if place.scale:
        parts = [[v * place.scale[i % 2] for i, v in enumerate(part)] for part in parts]
    limits, changed = place.size, place.scale is not None
    outside = max(map(lambda part: _outside(part, limits), parts), default=0)
    if outside > _OUTSIDE:
        width, height = limits
        detail = f"reaches {outside:.1%} of a side beyond {width} x {height} px"
        place.found("box or mask outside the image", detail)
        return None
    if outside > 0:
        place.found("box or mask up to 1 % or 2 px outside the image", "")
        parts = [[min(max(v, 0), limits[i % 2]) for i, v in enumerate(part)] for part in parts]
        changed = True
    if polygons:
        mask = parts[: len(polygons)]
    if box is None:
        box = _bounds(mask)
        if place.computed:
            place.found("missing box", "")
    elif changed:
        x, y, right, bottom = parts[-1]
        box = [x, y, right - x, bottom - y]
    if area is None and place.computed:
        place.found("missing area", "")
    if area is None or area <= 0 or changed or min(bounds[2:]) < _THIN:
        pixels = mask_area(mask, *limits[::-1])
        area = area if area and area > 0 and pixels and not changed else pixels
    if area <= 0 or min(box[2:]) <= 0:
        sides = " x ".join(f"{side:.3g}" for side in box[2:])
        place.found("object without an area", f"is {sides} px and covers no pixel")
        return None
    return {"bbox": box, "area": area, "segmentation": mask}


def _fitting(box: list[float] | None, bounds: list[float], place: Place) -> list[float] | None:
    """The box, unless it is empty; of two corners where these fit the mask and the box does not."""
    if box is None or min(box[2:]) <= 0:
        return None
    overlap = shapes.iou(box, bounds)
    if overlap >= _NEAR or min(bounds[2:]) <= 0:
        return box
    corners = shapes.box(*box)
    if shapes.iou(corners, bounds) >= _EQUAL:
        place.found("box written as two corners", "")
        return corners
    if overlap < _APART:
        place.found("box that hardly overlaps its mask", "")
    return box


def _outside(shape: list[float], limits: tuple[int, int]) -> float:
    """How far a shape reaches beyond the image, as a share of its side."""
    least = _LEAST / _OUTSIDE
    return max(
        max(-value, value - limits[i % 2]) / max(limits[i % 2], least)
        for i, value in enumerate(shape)
    )


def _bounds(mask: Mask) -> list[float]:
    if isinstance(mask, dict):
        return [float(value) for value in coco_mask.toBbox(mask)]
    xs = [x for polygon in mask for x in polygon[0::2]]
    ys = [y for polygon in mask for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]
