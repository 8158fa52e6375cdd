"""Reads and checks the two files that an evaluation compares: ground truth and detections."""

from array import array
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np

from gol.errors import UserError, choices
from gol.files import read_json

SCHEMA: dict[str, dict[str, Any]] = {  # the keys that are read, with their types
    "images": {
        "id": int,
        "height": int,
        "width": int,
        "neg_category_ids": list,
        "not_exhaustive_category_ids": list,
    },
    "categories": {"id": int, "name": str, "frequency": str},
    "annotations": {
        "id": int,
        "image_id": int,
        "category_id": int,
        "bbox": list,
        "area": (int, float),
        "segmentation": (list, dict),
    },
}
FREQUENCIES = ("r", "c", "f")
# The columns of the detection table, in the order in which hotcoco reads them.
IMAGE, X, Y, WIDTH, HEIGHT, SCORE, CATEGORY = range(7)


def read_ground_truth(path: str | Path) -> dict[str, Any]:
    """An annotation file in the LVIS schema, checked as far as the evaluation relies on it.

    Raises:
        UserError: unreadable, not of the schema, a repeated or unknown id.
    """
    dataset = read_json(path)
    if not isinstance(dataset, dict):
        raise UserError(f"{path}: expected the LVIS schema, an object with {choices(SCHEMA)}")
    ids = {section: _checked_ids(dataset, section, path) for section in SCHEMA}
    for category in dataset["categories"]:
        if category["frequency"] not in FREQUENCIES:
            raise UserError(
                f"{path}: category {category['id']} has frequency {category['frequency']!r}: "
                f"allowed are {choices(FREQUENCIES)}"
            )
    for annotation in dataset["annotations"]:
        for key, section in (("image_id", "images"), ("category_id", "categories")):
            if annotation[key] not in ids[section]:
                raise UserError(
                    f"{path}: annotation {annotation['id']} has {key} {annotation[key]}, "
                    f"which is not among the {section}"
                )
    return dataset


def _checked_ids(dataset: dict[str, Any], section: str, path: str | Path) -> set[int]:
    """The ids of one section, whose entries have all keys with values of the right types."""
    entries = dataset.get(section)
    if not isinstance(entries, list) or not (entries or section == "annotations"):
        raise UserError(f"{path}: expected the LVIS schema, but {section} is no list or empty")
    ids: set[int] = set()
    for index, entry in enumerate(entries):
        for key, kind in SCHEMA[section].items():
            if not isinstance(entry, dict) or key not in entry:
                raise UserError(f"{path}: {section}[{index}] has no {key}")
            if not isinstance(entry[key], kind):
                raise UserError(f"{path}: {section}[{index}] has {key} {str(entry[key])[:60]!r}")
        # With two equal ids lvis-api and hotcoco would each count one object twice.
        if entry["id"] in ids:
            raise UserError(f"{path}: {section}[{index}] repeats the id {entry['id']}")
        ids.add(entry["id"])
    return ids


def read_detections(
    path: str | Path, dataset: dict[str, Any], with_masks: bool | None
) -> tuple[np.ndarray, list[dict[str, Any]] | None]:
    """A detections file, checked against the ground truth.

    Args:
        path: JSON list of ``{image_id, category_id, score, bbox, segmentation}``.
        dataset: the result of ``read_ground_truth``.
        with_masks: whether the masks are read; None: if any detection has one, or there is none.

    Returns:
        The table, float64 (detections, 7), with the columns IMAGE … CATEGORY, and the RLE masks
        in the same order, or None.

    Raises:
        UserError: unreadable, missing keys, unknown ids, numbers that are not finite, negative
            box sizes, broken masks.
    """
    entries = read_json(path)
    if not isinstance(entries, list):
        raise UserError(f"{path}: expected a list of detections")
    if with_masks is None:
        with_masks = not entries or any(
            isinstance(entry, dict) and "segmentation" in entry for entry in entries
        )
    numbers, masks = array("d"), []
    for index, entry in enumerate(entries):
        try:
            x, y, width, height = entry["bbox"]
            score, category = entry["score"], entry["category_id"]
            numbers.extend((entry["image_id"], x, y, width, height, score, category))
            if with_masks:
                masks.append(entry["segmentation"])
        except KeyError as error:
            raise UserError(f"{path}: detection {index} has no {error}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{path}: detection {index} must have numbers for image_id, category_id and "
                "score, and four for bbox [x, y, width, height]"
            ) from error
    table = np.array(numbers).reshape(-1, 7)
    _check_table(table, dataset, path)
    if with_masks:
        _check_masks(masks, table, dataset, path)
    return table, masks if with_masks else None


def _check_table(table: np.ndarray, dataset: dict[str, Any], path: str | Path) -> None:
    def known(column: int, section: str) -> np.ndarray:
        return np.isin(table[:, column], [float(entry["id"]) for entry in dataset[section]])

    box = slice(X, HEIGHT + 1)
    for fine, column, message in (
        (np.isfinite(table[:, SCORE]), SCORE, "score {}: it must be a finite number"),
        (np.isfinite(table[:, box]).all(1), box, "bbox {}: its numbers must be finite"),
        ((table[:, [WIDTH, HEIGHT]] >= 0).all(1), box, "bbox {}: width or height is negative"),
        (known(IMAGE, "images"), IMAGE, "image_id {:.12g}: not among the images"),
        (known(CATEGORY, "categories"), CATEGORY, "category_id {:.12g}: not among the categories"),
    ):
        if not fine.all():
            index = int(fine.argmin())
            problem = message.format(table[index, column].tolist())
            raise UserError(f"{path}: detection {index} has {problem}")


def _check_masks(
    masks: list[Any], table: np.ndarray, dataset: dict[str, Any], path: str | Path
) -> None:
    sizes = {image["id"]: [image["height"], image["width"]] for image in dataset["images"]}
    for index, (mask, image) in enumerate(zip(masks, table[:, IMAGE].tolist(), strict=True)):
        if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
            raise UserError(
                f"{path}: detection {index}: segmentation must be a compressed RLE, "
                "{size: [height, width], counts: string}"
            )
        if mask.get("size") != sizes[image]:
            raise UserError(
                f"{path}: detection {index}: segmentation size {mask.get('size')} is not "
                f"[height, width] of image {image:.0f}, {sizes[image]}"
            )
        try:
            hotcoco.mask.area(mask)
        except ValueError as error:
            raise UserError(f"{path}: detection {index}: segmentation: {error}") from error
