"""Checking and cleaning one annotation's box and mask."""

import math
from typing import Any

from gol.data.masks import compress_rle, mask_area, run_lengths
from gol.data.packing import Packed
from gol.errors import shown

_ROUNDING = 1e-6  # px outside the image that float arithmetic explains
_TOLERANCE = 1  # px outside the image that an annotation tool's rounding explains
_DEEPEST = 20  # levels of what nobody reads
#: Pixels of an image that OpenCV reads; pycocotools draws a polygon far outside for ever.
LONGEST_SIDE = 1 << 20

Found = list[tuple[str, str]]


def is_object(annotation: dict[str, Any]) -> bool:
    """Whether an annotation is an object to learn and to find."""
    return not (annotation.get("iscrowd") or annotation.get("ignore"))


def plain(value: Any, levels: int = _DEEPEST) -> Any:
    """What any program can read as JSON: null for NaN, infinity and what lies too deep."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, dict | list):
        return value
    if not levels:
        return None
    if isinstance(value, dict):
        return {key: plain(item, levels - 1) for key, item in value.items()}
    return [plain(item, levels - 1) for item in value]


def clean_annotation(annotation: dict, image: dict) -> tuple[dict[str, Any] | None, Found]:
    """Checks one annotation whose ids are known to be right.

    Args:
        annotation: of the LVIS or COCO schema.
        image: the image that it belongs to, with a right ``width`` and ``height``.

    Returns:
        The annotation in the normal form (see :func:`gol.data.annotations.examine`), or None if
        it cannot be used; and what was found, as (kind, detail).
    """
    found: Found = []
    width, height = image["width"], image["height"]
    area, crowd = annotation.get("area"), annotation.get("iscrowd", 0)
    ignored = annotation.get("ignore") or 0
    if area is not None and not are_numbers([area]):
        return None, [("missing or wrong key", f"has area {shown(area)}")]
    for key, flag in (("iscrowd", crowd), ("ignore", ignored)):
        if flag not in (0, 1):
            return None, [("missing or wrong key", f"has {key} {shown(flag)}")]
    box = _clean_box(annotation.get("bbox"), width, height, found)
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        mask = _clean_rle(segmentation, width, height, found)
    else:
        mask = _clean_polygons(segmentation, width, height, found)
    if box is None or mask is None:
        return None, found
    if area is None:
        area = mask_area(mask, height, width)
    if area <= 0 or box[2] <= 0 or box[3] <= 0:
        return None, [*found, ("zero area", f"has bbox {shown(box)} and area {shown(area)}")]
    clean = {
        "id": annotation["id"],
        "image_id": annotation["image_id"],
        "category_id": annotation["category_id"],
        "bbox": box,
        "area": area,
        "iscrowd": int(crowd),
        "segmentation": mask,
    }
    if ignored:  # mmdet does not train on it, lvis-api does not count it
        clean["ignore"] = 1
    return clean, found


def are_numbers(values: list) -> bool:
    """Whether all are finite numbers that a float holds; true and false are none."""
    try:
        return set(map(type, values)) <= {int, float} and all(map(math.isfinite, values))
    except OverflowError:  # a whole number that no float holds
        return False


def _clean_box(box: object, width: int, height: int, found: Found) -> list[float] | None:
    if not isinstance(box, list) or len(box) != 4 or not are_numbers(box):
        found.append(("missing or wrong key", f"has bbox {shown(box)}"))
        return None
    x, y, w, h = box
    outside = max(-x, -y, x + w - width, y + h - height)
    bad = outside > _TOLERANCE or w < 0 or h < 0
    if outside <= _ROUNDING and not bad:
        return box
    kind = "box outside the image" if bad else "box up to 1 px outside the image"
    found.append((kind, f"has bbox {shown(box)} in {width} x {height} px"))
    if bad:
        return None
    left, top = max(x, 0), max(y, 0)
    return [left, top, max(0, min(x + w, width) - left), max(0, min(y + h, height) - top)]


def _clean_rle(rle: dict, width: int, height: int, found: Found) -> dict[str, Any] | None:
    counts = rle.get("counts")
    kind = "RLE that does not fit"
    if rle.get("size") != [height, width]:
        found.append((kind, f"has size {shown(rle.get('size'))}, not {[height, width]}"))
        return None
    if not isinstance(counts, str | list):
        found.append(("missing or wrong key", f"has counts {shown(counts)}"))
        return None
    try:
        runs = run_lengths(counts)
    except ValueError as error:
        found.append((kind, f"is malformed: {error}"))
        return None
    if sum(runs) != width * height:
        found.append((kind, f"covers {shown(sum(runs))} pixels, not {width * height}"))
        return None
    if not any(runs[1::2]):
        found.append(("zero area", "has an empty mask"))
        return None
    return compress_rle({"size": [height, width], "counts": counts})  # whole, where it has 96.0


def _clean_polygons(
    polygons: object, width: int, height: int, found: Found
) -> list[list[float]] | Packed | None:
    if isinstance(polygons, Packed):
        if polygons.outside(width, height) <= _ROUNDING:
            return polygons
        polygons = polygons.polygons()
    if not isinstance(polygons, list) or not all(
        isinstance(polygon, list) and are_numbers(polygon) for polygon in polygons
    ):
        found.append(("missing or wrong key", f"has segmentation {shown(polygons)}"))
        return None
    kept = [polygon for polygon in polygons if len(polygon) >= 6 and len(polygon) % 2 == 0]
    if not kept:
        found.append(("mask without a polygon", f"has segmentation {shown(polygons)}"))
        return None
    if len(kept) < len(polygons):
        detail = f"has {len(polygons) - len(kept)} of {len(polygons)} without 3 whole points"
        found.append(("degenerate polygon", detail))
    outside = max(_outside(polygon, width, height) for polygon in kept)
    if outside <= _ROUNDING:
        return kept
    detail = f"reaches {outside:.2f} px beyond {width} x {height} px"
    if outside > _TOLERANCE:
        found.append(("mask outside the image", detail))
        return None
    found.append(("mask up to 1 px outside the image", detail))
    limits = (width, height)
    return [[min(max(v, 0), limits[i % 2]) for i, v in enumerate(polygon)] for polygon in kept]


def _outside(polygon: list[float], width: int, height: int) -> float:
    xs, ys = polygon[0::2], polygon[1::2]
    return max(-min(xs), -min(ys), max(xs) - width, max(ys) - height)
