"""How often each class occurs in a training set: what the losses know about the long tail.

The statistics of LVIS v1 and v0.5 ship with the package (``lvis_v1_classes.json``,
``lvis_v0_5_classes.json``). Their counts are those of the full training sets, as published with
Detic (v1) and the detectron2 port of the equalization loss (v0.5), both Apache-2.0; the LVIS
annotations behind them are licensed CC BY 4.0.
"""

from collections import Counter
from dataclasses import asdict, dataclass, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

from gol.errors import UserError, choices
from gol.files import read_json, write_json
from gol.groups import GROUPS, THRESHOLDS, frequency_group

SCHEMA = "gol.class_statistics/1"
PUBLISHED = ("v1", "v0_5")


@dataclass(frozen=True)
class ClassStatistics:
    """Counts of a training set; one entry per class, ordered by category id.

    Attributes:
        ids: category ids, ascending.
        names: category names.
        frequencies: "r" (rare), "c" (common) or "f" (frequent).
        image_counts: number of images with the class.
        instance_counts: number of annotations of the class.
        images: number of images.
        annotated_images: number of images with at least one annotation.
    """

    ids: tuple[int, ...]
    names: tuple[str, ...]
    frequencies: tuple[str, ...]
    image_counts: tuple[int, ...]
    instance_counts: tuple[int, ...]
    images: int
    annotated_images: int

    @classmethod
    def from_annotations(
        cls, data: dict[str, Any], thresholds: tuple[int, int] = THRESHOLDS
    ) -> Self:
        """Counts an annotation file of the LVIS or COCO schema, without what is to be ignored.

        Args:
            data: the file's content: ``images``, ``annotations`` and ``categories``.
            thresholds: a class is rare up to the first number of images, common up to the
                second, frequent above (LVIS: 10 and 100). The categories' own ``frequency``
                is used instead if all of them have one.

        Raises:
            UserError: a key is missing or wrong, there is no category, an id occurs twice, or
                an annotation names an unknown category or image.
        """
        try:
            categories = sorted(data["categories"], key=lambda category: category["id"])
            ids = tuple(category["id"] for category in categories)
            names = tuple(str(category["name"]) for category in categories)
            images = [image["id"] for image in data["images"]]
            pairs = [
                (a["category_id"], a["image_id"])
                for a in data["annotations"]
                if not a.get("ignore")
            ]
        except (AttributeError, KeyError, TypeError) as error:
            raise UserError(f"annotations are not of the LVIS or COCO schema: {error}") from error
        _check_references(ids, images, pairs)
        instances = Counter(category for category, _ in pairs)
        present = Counter(category for category, _ in set(pairs))
        image_counts = tuple(present[i] for i in ids)
        groups = tuple(category.get("frequency") for category in categories)
        if not all(group in tuple(GROUPS) for group in groups):
            groups = tuple(frequency_group(count, thresholds) for count in image_counts)
        return cls(
            ids=ids,
            names=names,
            frequencies=groups,
            image_counts=image_counts,
            instance_counts=tuple(instances[i] for i in ids),
            images=len(images),
            annotated_images=len({image for _, image in pairs}),
        )

    @classmethod
    def published(cls, version: str) -> Self:
        """Returns the statistics of LVIS ``version``, "v1" or "v0_5".

        Raises:
            UserError: any other version.
        """
        if version not in PUBLISHED:
            raise UserError(
                f"version is {version!r}; allowed: {choices(PUBLISHED)}, "
                "or a file given as class_statistics"
            )
        return cls.load(str(files("gol.losses") / f"lvis_{version}_classes.json"))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a file written by :meth:`save`.

        Raises:
            UserError: the file is missing, no JSON, or not of this schema.
        """
        value = read_json(path)
        if not isinstance(value, dict) or value.get("schema") != SCHEMA:
            raise UserError(f"{path}: key 'schema' is not {SCHEMA!r}: no class-statistics file")
        keys = [field.name for field in fields(cls)]
        if wrong := sorted(set(value).symmetric_difference([*keys, "schema"])):
            raise UserError(f"{path}: missing or unknown: {choices(wrong)}")
        _check_columns(path, value)
        columns = {k: tuple(v) if isinstance(v, list) else v for k, v in value.items()}
        return cls(**{key: columns[key] for key in keys})

    def save(self, path: str | Path, writer: str | None = None) -> None:
        """Writes the statistics as JSON, atomically.

        Args:
            path: the file.
            writer: as for :func:`gol.files.write_json`.

        Raises:
            UserError: the file cannot be written.
        """
        write_json(path, {"schema": SCHEMA, **asdict(self)}, writer=writer)

    def image_frequency(self) -> tuple[float, ...]:
        """Returns, per class, image count / annotated images: the losses' class frequency."""
        return tuple(count / max(self.annotated_images, 1) for count in self.image_counts)


def _check_references(ids: tuple[int, ...], images: list, pairs: list[tuple]) -> None:
    if not ids:
        raise UserError("annotations have no category")
    if wrong := [i for i in ids if type(i) is not int]:
        raise UserError(f"category id {wrong[0]!r} must be a whole number")
    for what, values in (("category", ids), ("image", images)):
        if doubles := [value for value, count in Counter(values).items() if count > 1]:
            raise UserError(f"{what} id {doubles[0]} occurs more than once")
    known = (("category_id", set(ids)), ("image_id", set(images)))
    for position, (key, allowed) in enumerate(known):
        if unknown := {pair[position] for pair in pairs} - allowed:
            raise UserError(f"an annotation's {key} {next(iter(unknown))} does not exist")


def _check_columns(path: str | Path, value: dict[str, Any]) -> None:
    """Checks types and lengths of a file's columns; a bool does not count."""

    def is_count(number: object) -> bool:
        return type(number) is int and number >= 0

    column_checks = {
        "ids": lambda x: type(x) is int,
        "names": lambda x: isinstance(x, str),
        "frequencies": lambda x: x in tuple(GROUPS),
        "image_counts": is_count,
        "instance_counts": is_count,
    }
    for key, check in column_checks.items():
        if not isinstance(value[key], list) or not all(map(check, value[key])):
            raise UserError(f"{path}: key {key!r} must be a list of the expected values")
        if len(value[key]) != len(value["ids"]) or not value[key]:
            raise UserError(f"{path}: key {key!r} has {len(value[key])} entries, not one per id")
    for key in ("images", "annotated_images"):
        if not is_count(value[key]):
            raise UserError(f"{path}: key {key!r} is {value[key]!r}; allowed: whole numbers from 0")
    if list(value["ids"]) != sorted(set(value["ids"])):
        raise UserError(f"{path}: key 'ids' is not in ascending order")
