"""Reads and checks the two files that an evaluation compares: ground truth and detections."""

from array import array
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np

from gol.data.masks import run_lengths
from gol.errors import UserError, choices, shown
from gol.evaluation.schema import SCHEMA
from gol.files import read_json
from gol.files.stream import read_json_runs
from gol.groups import GROUPS

FREQUENCIES = tuple(GROUPS)
# The columns of the detection table, in the order in which hotcoco reads them.
IMAGE, X, Y, WIDTH, HEIGHT, SCORE, CATEGORY = range(7)


@dataclass
class GroundTruth:
    """An annotation file as hotcoco takes it.

    Attributes:
        dataset: ``images``, ``annotations`` and ``categories`` with the keys of SCHEMA alone:
            hotcoco refuses other keys of unexpected types, which exports of labelling tools have.
            All ids are numbers from 1 on, in the order of the file's ids, so that ids of any size
            and sign pass through float64 columns unharmed.
        categories: the file's categories by ascending id; the i-th has the number i + 1.
        images: the file's image ids to their numbers.
        sizes: [height, width] of each image in pixels, by number.
    """

    dataset: dict[str, list[dict[str, Any]]]
    categories: list[dict[str, Any]]
    images: dict[int, int]
    sizes: dict[int, list[int]]

    @property
    def category_numbers(self) -> dict[int, int]:
        """The file's category ids to their numbers."""
        return {category["id"]: i for i, category in enumerate(self.categories, 1)}


def read_ground_truth(path: str | Path) -> GroundTruth:
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
                f"{path}: category {category['id']} has frequency {shown(category['frequency'])}: "
                f"allowed are {choices(FREQUENCIES)}"
            )
    sizes = {image["id"]: [image["height"], image["width"]] for image in dataset["images"]}
    for annotation in dataset["annotations"]:
        where = f"{path}: annotation {annotation['id']}"
        for key, section in (("image_id", "images"), ("category_id", "categories")):
            if annotation[key] not in ids[section]:
                raise UserError(
                    f"{where} has {key} {annotation[key]}, which is not among the {section}"
                )
        mask = annotation["segmentation"]
        if isinstance(mask, dict) and (fault := _fault(mask, sizes[annotation["image_id"]])):
            raise UserError(f"{where}: segmentation {fault}")
    return _numbered(dataset, ids)


def _numbered(dataset: dict[str, Any], ids: dict[str, set[int]]) -> GroundTruth:
    images = {identity: number for number, identity in enumerate(sorted(ids["images"]), 1)}
    categories = {identity: number for number, identity in enumerate(sorted(ids["categories"]), 1)}

    def numbers(listed: list) -> list[int]:
        known = (categories.get(i) for i in listed if isinstance(i, int | float))
        return [number for number in known if number]

    truth = GroundTruth(
        dataset={
            "images": [
                {
                    "id": images[image["id"]],
                    "height": image["height"],
                    "width": image["width"],
                    "neg_category_ids": numbers(image["neg_category_ids"]),
                    "not_exhaustive_category_ids": numbers(image["not_exhaustive_category_ids"]),
                }
                for image in dataset["images"]
            ],
            "categories": [
                {"id": categories[category["id"]], "name": category["name"]}
                for category in dataset["categories"]
            ],
            "annotations": dataset["annotations"],
        },
        categories=sorted(dataset["categories"], key=lambda category: category["id"]),
        images=images,
        sizes={images[i["id"]]: [i["height"], i["width"]] for i in dataset["images"]},
    )
    annotations = truth.dataset["annotations"]
    for number, annotation in enumerate(annotations, 1):
        annotations[number - 1] = {  # in place: LVIS has over a million
            "id": number,
            "image_id": images[annotation["image_id"]],
            "category_id": categories[annotation["category_id"]],
            **{key: annotation[key] for key in ("bbox", "area", "segmentation")},
            "ignore": bool(annotation.get("ignore")),
        }
    return truth


def _checked_ids(dataset: dict[str, Any], section: str, path: str | Path) -> set[int]:
    """The ids of one section, whose entries have all keys with values of the right types."""
    entries = dataset.get(section)
    if not isinstance(entries, list) or not (entries or section == "annotations"):
        raise UserError(f"{path}: {section} is not a list or is empty: expected the LVIS schema")
    ids: set[int] = set()
    for index, entry in enumerate(entries):
        for key, accepts in SCHEMA[section].items():
            if not isinstance(entry, dict) or key not in entry:
                raise UserError(
                    f"{path}: {section}[{index}] has no {key}: expected the LVIS schema, which "
                    "`gol preprocess` writes from COCO files too"
                )
            if not accepts(entry[key]):
                raise UserError(f"{path}: {section}[{index}] has {key} {shown(entry[key])}")
        # With two equal ids lvis-api and hotcoco would each count one object twice.
        if entry["id"] in ids:
            raise UserError(f"{path}: {section}[{index}] repeats the id {entry['id']}")
        ids.add(entry["id"])
    return ids


@dataclass
class Detections:
    """A detections file.

    Attributes:
        table: float64 (detections, 7), with the columns IMAGE … CATEGORY; images and categories
            by the numbers of :class:`GroundTruth`.
        masks: the counts of the compressed RLE masks in the same order, or None.
        areas: (detections) in square pixels, by which sizes are told apart and those without any
            are dropped, as lvis-api does: of the box, or of the mask where the file has no boxes.
        boxes: whether the file has boxes; otherwise those in the table are the masks'.
    """

    table: np.ndarray
    masks: list[str] | None
    areas: np.ndarray
    boxes: bool

    def take(self, kept: np.ndarray) -> "Detections":
        """Those at some indices."""
        masks = None if self.masks is None else [self.masks[i] for i in kept]
        return Detections(self.table[kept], masks, self.areas[kept], self.boxes)

    def sized_by_mask(self, sizes: dict[int, list[int]]) -> "Detections":
        """The same with the areas of the masks, as of a file without boxes."""
        images = self.table[:, IMAGE].tolist()
        areas = [
            hotcoco.mask.area({"size": sizes[image], "counts": counts})
            for image, counts in zip(images, self.masks or (), strict=True)
        ]
        return Detections(self.table, self.masks, np.array(areas, float), boxes=False)


def read_detections(path: str | Path, truth: GroundTruth, with_masks: bool | None) -> Detections:
    """A detections file, checked against the ground truth.

    Few entries are in memory at a time, and of each only the numbers and the mask's text are kept.

    Args:
        path: JSON list of ``{image_id, category_id, score, bbox, segmentation}``; torchvision and
            detectron2 write mask results without ``bbox``.
        truth: the result of ``read_ground_truth``.
        with_masks: whether the masks are read; None: if any detection has one, or there is none.

    Raises:
        UserError: unreadable, missing keys, unknown ids, numbers that are not finite, negative
            box sizes, broken masks.
    """
    runs = read_json_runs(path, "detections")
    head = next(runs, [])
    first = head[0] if head and isinstance(head[0], dict) else {}
    boxes = "bbox" in first or "segmentation" not in first  # lvis-api too asks the first
    needed = with_masks or not boxes
    found = _Entries(path, truth, boxes, with_masks is not False or needed)
    for run in chain([head], runs):
        found.take(run)
    if needed or (with_masks is None and found.any_mask):
        found.refuse_maskless()
    elif found.count:
        found.masks = None
    table = np.frombuffer(found.numbers).reshape(-1, 7)
    _check_table(table, path)
    areas = table[:, WIDTH] * table[:, HEIGHT]
    if not boxes and found.masks:
        table[:, X : HEIGHT + 1] = np.array(found.mask_boxes).reshape(-1, 4)
        areas = np.array(found.mask_areas)
    return Detections(table, found.masks if with_masks is not False else None, areas, boxes)


class _Entries:
    """What is kept of the entries of a detections file.

    Args:
        path: the file, for messages.
        truth: the ground truth.
        boxes: whether the boxes are read; otherwise the masks' are taken.
        masks: whether masks are read.
    """

    def __init__(self, path: str | Path, truth: GroundTruth, boxes: bool, masks: bool) -> None:
        self.path, self.boxes = path, boxes
        self.images, self.categories = truth.images, truth.category_numbers
        self.sizes = truth.sizes
        self.numbers, self.count = array("d"), 0
        self.masks: list[str] | None = [] if masks else None
        self.any_mask, self.maskless = False, -1  # index of the first without
        self.mask_boxes, self.mask_areas = array("d"), array("d")

    def take(self, run: list) -> None:
        """Checks some entries and takes what is needed."""
        try:
            numbers, counts = self._columns(run)
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
            for entry in run:  # one of them is special or wrong
                self._add(entry)
            return
        self.numbers.frombytes(numbers.tobytes())
        self.count, self.any_mask = self.count + len(run), self.any_mask or bool(counts)
        if counts:
            self.masks += counts

    def _columns(self, run: list) -> tuple[np.ndarray, list[str]]:
        """The table's rows and the masks' counts; any error where :meth:`_add` must have a look."""
        images = [self.images[entry["image_id"]] for entry in run]
        table = np.empty((len(run), 7))
        table[:, IMAGE] = images
        table[:, CATEGORY] = [self.categories[entry["category_id"]] for entry in run]
        table[:, SCORE] = array("d", [entry["score"] for entry in run])
        boxes = [entry["bbox"] for entry in run]
        table[:, X : HEIGHT + 1] = np.reshape(array("d", chain.from_iterable(boxes)), (-1, 4))
        masks = [entry["segmentation"] for entry in run] if self.masks is not None else []
        counts, sizes = [mask["counts"] for mask in masks], [self.sizes[i] for i in images]
        odd = not self.boxes or {*map(len, boxes)} != {4} or {*map(type, counts)} - {str}
        odd = odd or (masks and [mask["size"] for mask in masks] != sizes)
        hotcoco.mask.area([{"size": s, "counts": c} for s, c in zip(sizes, counts, strict=False)])
        if odd or any(map(_fits, counts, [height * width - 1 for height, width in sizes])):
            raise ValueError
        return table, counts

    def _add(self, entry: Any) -> None:
        """Checks an entry and takes what is needed."""
        try:
            x, y, width, height = entry["bbox"] if self.boxes else (0, 0, 0, 0)
            image = self.images.get(entry["image_id"])
            category = self.categories.get(entry["category_id"])
            if image is None or category is None:
                self._refuse_id(entry)
            self.numbers.extend((image, x, y, width, height, entry["score"], category))
        except KeyError as error:
            raise UserError(f"{self.path}: detection {self.count} has no {error}") from error
        except (TypeError, ValueError, OverflowError) as error:
            raise UserError(
                f"{self.path}: detection {self.count} must have numbers for image_id, category_id "
                "and score, and four for bbox [x, y, width, height]"
            ) from error
        if self.masks is not None:
            self._add_mask(entry, image)
        self.count += 1

    def refuse_maskless(self) -> None:
        """Refuses a detection without a mask."""
        if self.maskless >= 0:
            raise UserError(f"{self.path}: detection {self.maskless} has no 'segmentation'")

    def _refuse_id(self, entry: dict[str, Any]) -> None:
        unknown = entry["image_id"] not in self.images
        key, section = ("image_id", "images") if unknown else ("category_id", "categories")
        raise UserError(
            f"{self.path}: detection {self.count} has {key} {shown(entry[key])}: not among the "
            f"{section}"
        )

    def _add_mask(self, entry: dict[str, Any], image: int) -> None:
        if "segmentation" not in entry:
            self.maskless = self.count if self.maskless < 0 else self.maskless
            return
        self.any_mask, mask = True, entry["segmentation"]
        if not isinstance(mask, dict) or not isinstance(mask.get("counts"), str):
            raise UserError(
                f"{self.path}: detection {self.count}: segmentation must be a compressed RLE, "
                "{size: [height, width], counts: string}"
            )
        if fault := _fault(mask, self.sizes[image]):
            raise UserError(f"{self.path}: detection {self.count}: segmentation {fault}")
        self.masks.append(mask["counts"])
        if not self.boxes:
            self.mask_boxes.extend(hotcoco.mask.to_bbox(mask))
            self.mask_areas.append(hotcoco.mask.area(mask))


def _check_table(table: np.ndarray, path: str | Path) -> None:
    box = slice(X, HEIGHT + 1)
    for fine, column, message in (
        (np.isfinite(table[:, SCORE]), SCORE, "score {}: it must be a finite number"),
        (np.isfinite(table[:, box]).all(1), box, "bbox {}: its numbers must be finite"),
        ((table[:, [WIDTH, HEIGHT]] >= 0).all(1), box, "bbox {}: width or height is negative"),
    ):
        if not fine.all():
            index = int(fine.argmin())
            problem = message.format(table[index, column].tolist())
            raise UserError(f"{path}: detection {index} has {problem}")


def _fault(mask: dict[str, Any], size: list[int]) -> str:
    """What is wrong with an RLE for an image of ``size``; its own becomes whole numbers."""
    if mask.get("size") != size:
        return f"has size {shown(mask.get('size'))}: [height, width] of its image is {size}"
    mask["size"] = size
    counts, pixels = mask["counts"], size[0] * size[1]
    try:
        if isinstance(counts, list):
            short = sum(run_lengths(counts)) != pixels
        else:
            hotcoco.mask.area(mask)
            short = _fits(counts, pixels - 1)
    except ValueError as error:
        return f"is malformed: {error}"
    # pycocotools, and so lvis-api, would compare such a mask for ever
    return f"does not cover the {size[0]} x {size[1]} pixels of its image" if short else ""


def _fits(counts: str, pixels: int) -> bool:
    """Whether the runs end within so many pixels, which hotcoco only says by an error."""
    try:
        hotcoco.mask.area({"size": [1, pixels], "counts": counts})
    except ValueError:
        return False
    return True
