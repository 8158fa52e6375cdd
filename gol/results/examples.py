"""Validation images with what is annotated and what each method finds: chosen and compared.

Every method may show as many detections of an image as that has objects, the best-scored first: a
score threshold would have to be chosen for each method, since their scores are not on one scale.
"""

import json
import mmap
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import hotcoco
import numpy as np

from gol.data.images import read_photo
from gol.data.store import AnnotationStore
from gol.errors import UserError
from gol.evaluation.diagnosis import IOU
from gol.files.digests import check_seal
from gol.files.stream import read_json_list
from gol.results.rows import Tables
from gol.results.runs import Run, scored_on

IMAGES = 4
MOST = 5  # objects of an image that are shown
ROWS = 30  # of the tables; with more the report page would be slow to open
LONGEST = 800  # pixels of an image's longer side

_START = b'{"image_id": '  # of a detection as `gol detect` writes it


@dataclass(frozen=True)
class Thing:
    """An object or a detection.

    Attributes:
        label: index of its class by ascending id.
        box: x, y, width, height in pixels.
        mask: RLE of the whole image, or None.
        score: of a detection.
        right: whether a detection is an object, by class and place (IoU 0.5).
    """

    label: int
    box: list[float]
    mask: dict[str, Any] | None
    score: float | None = None
    right: bool = False


@dataclass(frozen=True)
class Example:
    """An image with what is in it and what was found.

    Attributes:
        pixels: (h, w, 3) uint8, BGR, of any size.
        size: height and width in pixels that boxes and masks are for.
        objects: the rarest class first.
        found: of each method, the best-scored first; at most as many as there are objects or MOST.
    """

    pixels: np.ndarray
    size: tuple[int, int]
    objects: list[Thing]
    found: list[list[Thing]]


@dataclass(frozen=True)
class Block:
    """Methods that were scored on the same images.

    Attributes:
        classes: name and number of training images (None: unknown) of each, by ascending id.
        methods: their labels.
        examples: images of the rarest classes first.
    """

    classes: list[tuple[str, int | None]]
    methods: list[str]
    examples: list[Example]


def read_blocks(runs: Iterable[Run], tables: Tables) -> list[Block]:
    """Reads what the figure shows: of each row of the tables its first seed.

    Args:
        runs: finished runs; those of the rows among them.
        tables: title to rows.

    Raises:
        UserError: annotations, detections or an image are missing or damaged.
    """
    by_name = {(run.identity.experiment, run.identity.seed): run for run in runs}
    rows = {(r.experiment, r.scoring): r for part in tables.values() for r in part}
    if len(rows) > ROWS:
        print(f"the examples show the first {ROWS} of {len(rows)} rows", file=sys.stderr)
    together: dict[tuple[Path, Path], list[tuple[str, Path]]] = {}
    for row in [*rows.values()][:ROWS]:
        run = by_name[row.trained_as, row.seeds[0]]
        detections = run.folder.detections(row.scoring)
        together.setdefault(scored_on(run), []).append((row.label, detections))
    return [_block(*place, methods) for place, methods in together.items()]


def _block(annotations: Path, images: Path, methods: Sequence[tuple[str, Path]]) -> Block:
    store = AnnotationStore.open(annotations)
    categories = sorted(store.categories, key=lambda category: category["id"])
    counts = [category.get("image_count") for category in categories]
    rows = choose(store, [count or 0 for count in counts])
    try:
        found = [_read(path, store.image_id[rows].tolist()) for _, path in methods]
        examples = [_example(store, row, images, counts, found) for row in rows]
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{annotations}, or detections in its images, are damaged "
            f"({type(error).__name__}: {error})"
        ) from error
    classes = [(category["name"], category.get("image_count")) for category in categories]
    return Block(classes, [label for label, _ in methods], examples)


def _example(
    store: AnnotationStore,
    row: int,
    images: Path,
    counts: Sequence[int | None],
    found: Sequence[Iterable[dict[str, Any]]],
) -> Example:
    """An image of the store, with each method's detections among others."""
    image = store.image(row)
    size = (image["height"], image["width"])
    ids = sorted(category["id"] for category in store.categories)
    labels = {identity: label for label, identity in enumerate(ids)}
    objects = [
        Thing(labels[a["category_id"]], a["bbox"], _rle(a["segmentation"], size))
        for a in store.annotations(row)
        if not a["ignore"]
    ]
    objects.sort(key=lambda thing: (counts[thing.label] or 0, thing.label))
    own = [[entry for entry in entries if entry["image_id"] == image["id"]] for entries in found]
    return Example(
        pixels=_shrunk(read_photo(images / image["file_name"])),
        size=size,
        objects=objects,
        found=[_best(entries, labels, objects) for entries in own],
    )


def _shrunk(pixels: np.ndarray) -> np.ndarray:
    scale = LONGEST / max(pixels.shape[:2])
    if scale >= 1:
        return pixels
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def choose(store: AnnotationStore, counts: Sequence[int], images: int = IMAGES) -> list[int]:
    """Images of the rarest classes, one for each class, as their rows in the store.

    Of the images with a class it is the one with most objects, but MOST at the most, if it can be;
    then the first.

    Args:
        store: the annotations.
        counts: training images of each class by ascending id.
        images: how many.
    """
    objects = np.diff(store.first)
    owner = np.repeat(np.arange(len(store)), objects)
    rest = np.where(objects > MOST, objects, MOST - objects)
    ids = sorted(category["id"] for category in store.categories)
    chosen: list[int] = []
    for _, identity in sorted(zip(counts, ids, strict=True)):
        inside = np.setdiff1d(owner[store.category_id == identity], chosen)
        if len(inside) and len(chosen) < images:
            chosen.append(min(inside.tolist(), key=lambda row: (rest[row], row)))
    if not chosen:
        raise UserError("no object is annotated")
    return chosen


def _read(path: Path, images: Sequence[int]) -> list[dict[str, Any]]:
    """The detections of some images; to parse all of LVIS's for that would take a minute."""
    try:
        with open(path, "rb") as file:
            check_seal(path, file)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                begins = content[: len(_START) + 1] == b"[" + _START
                if begins and content[-2:].endswith((b"]\n", b"]")):
                    return _scanned(content, images)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError):  # the reader below says what is wrong with it
        pass
    entries = read_json_list(path, "detections")
    return [entry for entry in entries if entry["image_id"] in images]


def _scanned(content: mmap.mmap, images: Sequence[int]) -> list[dict[str, Any]]:
    """The detections of some images, each decoded up to where the next one begins."""
    decode, found = json.JSONDecoder().raw_decode, []
    ids = b"|".join(b"%d" % each for each in images)
    for match in re.finditer(re.escape(_START) + b"(?:%b)," % ids, content):
        end = content.find(_START, match.end())
        found.append(decode(content[match.start() : end if end > 0 else None].decode())[0])
    return found


def _best(
    entries: Iterable[dict[str, Any]], labels: Mapping[int, int], objects: Sequence[Thing]
) -> list[Thing]:
    """An image's best-scored detections, and whether they are objects that none before them is."""
    missed, found = list(objects), []
    most = min(len(objects), MOST)
    for entry in sorted(entries, key=lambda entry: -entry["score"])[:most]:
        if mask := entry.get("segmentation"):
            hotcoco.mask.area(mask)  # a ValueError, if it is malformed
        thing = Thing(labels[entry["category_id"]], entry["bbox"], mask, entry["score"])
        same = [each for each in missed if each.label == thing.label]
        overlaps = [_iou(thing, each) for each in same]
        if right := max(overlaps, default=0.0) >= IOU:
            missed.remove(same[int(np.argmax(overlaps))])
        found.append(replace(thing, right=right))
    return found


def _iou(one: Thing, other: Thing) -> float:
    if one.mask and other.mask:
        return float(hotcoco.mask.iou([one.mask], [other.mask], [False])[0, 0])
    return float(hotcoco.mask.iou([one.box], [other.box], [False])[0, 0])


def _rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any] | None:
    """A segmentation of the COCO schema as RLE; None where there is none."""
    if not segmentation:
        return None
    rle = hotcoco.mask.fr_py_objects(segmentation, *size)
    return hotcoco.mask.merge(rle) if isinstance(rle, list) else rle
