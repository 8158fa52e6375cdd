"""The LVIS schema of annotations, as far as the evaluation relies on it."""

from collections.abc import Callable
from typing import Any

from gol.data.objects import LONGEST_SIDE, are_numbers


def _is_whole(value: Any) -> bool:
    return type(value) is int


def _is_side(value: Any) -> bool:
    return type(value) is int and 0 < value <= LONGEST_SIDE


def _is_list(value: Any) -> bool:
    return isinstance(value, list)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_box(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 4 and are_numbers(value) and min(value[2:]) >= 0
    )


def _is_area(value: Any) -> bool:
    return are_numbers([value])


def _is_mask(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value.get("counts"), str | list)
    return bool(value) and isinstance(value, list) and all(map(_is_polygon, value))


def _is_polygon(value: Any) -> bool:
    # pycocotools takes four numbers for a box
    drawn = isinstance(value, list) and len(value) > 4 and are_numbers(value)
    return drawn and min(value) >= -LONGEST_SIDE and max(value) <= LONGEST_SIDE


#: The keys of each section that are read, and their checks.
SCHEMA: dict[str, dict[str, Callable[[Any], bool]]] = {
    "images": {
        "id": _is_whole,
        "height": _is_side,
        "width": _is_side,
        "neg_category_ids": _is_list,
        "not_exhaustive_category_ids": _is_list,
    },
    "categories": {"id": _is_whole, "name": _is_text, "frequency": _is_text},
    "annotations": {
        "id": _is_whole,
        "image_id": _is_whole,
        "category_id": _is_whole,
        "bbox": _is_box,
        "area": _is_area,
        "segmentation": _is_mask,
    },
}
