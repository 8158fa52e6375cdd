"""What AP hides: precision and recall, the best score threshold of a class, and what is confused.

All follows the LVIS protocol of ``gol.evaluation.lvis``: a class counts only in the images where it
is annotated or known to be absent, and where it is not annotated exhaustively, what matches nothing
is left out. Counts of right, wrong and missed objects are at IoU 0.5.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import hotcoco
import numpy as np

from gol.evaluation.lvis import AREA_RANGES, MOST, Pair, load_pair, match, parameters

IOU = 0.5  # from which a detection counts as the object
_ALL = {"all": AREA_RANGES["all"]}


class _Files(NamedTuple):
    """Ground truth and detections of some images."""

    expected: hotcoco.COCO
    found: hotcoco.COCO


@dataclass(frozen=True)
class ClassDiagnosis:
    """A class at the score threshold of its highest F1.

    Attributes:
        id: as in the annotations.
        name: as there.
        group: r, c or f.
        objects: how many count in the evaluation.
        threshold: score from which detections are kept; None: no detection is right.
        precision: share of the kept detections that are right, in [0, 1].
        recall: share of the objects that are found, in [0, 1].
        f1: harmonic mean of both.
    """

    id: int
    name: str
    group: str
    objects: int
    threshold: float | None
    precision: float = 0.0
    recall: float = 0.0
    f1: float = 0.0


@dataclass(frozen=True)
class Diagnosis:
    """A run's detections in detail; C classes by ascending id.

    Attributes:
        kind: "segm", or "bbox" where detections have no masks.
        classes: C classes.
        precision: float64 (10 IoU thresholds, 101 recalls, C), interpolated; -1 where a class has
            no ground truth. Its mean is AP.
        confusion: int64 (C + 1, C + 1), counts by class of the object and class of the detection,
            of detections from their class's threshold on. In the last column objects that nothing
            found, in the last row detections where no object is.
    """

    kind: str
    classes: list[ClassDiagnosis]
    precision: np.ndarray
    confusion: np.ndarray


def diagnose(
    annotations: str | Path, detections: str | Path, max_detections: int = MOST
) -> Diagnosis:
    """Examines a detections file; the files and errors are those of ``gol.evaluation.evaluate``.

    Args:
        annotations: JSON in the LVIS schema.
        detections: JSON list of detections.
        max_detections: of an image.

    Raises:
        UserError: a file is unreadable or not of its schema.
    """
    pair = load_pair(annotations, detections, None, max_detections)
    kind = "segm" if pair.with_masks else "bbox"
    classes = _classes(pair.truth.categories, _matches(pair, kind, max_detections))
    return Diagnosis(
        kind=kind,
        classes=classes,
        precision=match(pair, kind, max_detections, _ALL)[..., 0],
        confusion=_confusion(
            _matches(pair, kind, max_detections), kind, [each.threshold for each in classes]
        ),
    )


def _matches(pair: Pair, kind: str, max_detections: int) -> Iterator[tuple[_Files, list[dict]]]:
    """Some images at a time: what was loaded, and the entries of its images and classes."""
    for part in pair.parts():
        files = _Files(*pair.load(part))
        engine = hotcoco.COCOeval(files.expected, files.found, kind, lvis_style=True)
        engine.params = parameters(kind, max_detections, [IOU], _ALL)
        engine.evaluate()
        yield files, [entry for entry in engine.eval_imgs if entry]


def best_threshold(
    scores: np.ndarray, right: np.ndarray, objects: int
) -> tuple[float, float, float, float] | None:
    """The score threshold of the highest F1; of several the highest.

    Args:
        scores: float (N,) of the detections that count.
        right: bool (N,) whether each is an object.
        objects: how many objects there are.

    Returns:
        Threshold, precision, recall and F1; None where no detection is right.
    """
    if not right.any():
        return None
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(right[order])
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores are kept or dropped together
    kept = np.arange(1, len(scores) + 1)[last]
    scores, found = scores[last], found[last]
    f1 = 2 * found / (kept + objects)
    best = int(f1.argmax())
    values = (scores[best], found[best] / kept[best], found[best] / objects, f1[best])
    return tuple(map(float, values))


def _classes(
    categories: list[dict[str, Any]], matches: Iterable[tuple[_Files, list[dict]]]
) -> list[ClassDiagnosis]:
    scores: list[list[float]] = [[] for _ in categories]
    right: list[list[bool]] = [[] for _ in categories]
    objects = [0] * len(categories)
    for entry in chain.from_iterable(entries for _, entries in matches):
        index = entry["category_id"] - 1
        objects[index] += entry["gtIgnore"].count(False)
        for score, matched, ignored in _detections(entry, "dtScores"):
            if not ignored:
                scores[index].append(score)
                right[index].append(bool(matched))
    return [
        ClassDiagnosis(
            category["id"],
            category["name"],
            category["frequency"],
            objects[i],
            *(best_threshold(np.array(scores[i]), np.array(right[i], bool), objects[i]) or [None]),
        )
        for i, category in enumerate(categories)
    ]


def _detections(entry: dict[str, Any], *keys: str) -> Iterable[tuple]:
    """Some values of each detection of an image and class, then its match and "left out"."""
    listed = (entry[key] for key in keys)
    return zip(*listed, entry["dtMatches"][0], entry["dtIgnore"][0], strict=True)


def _confusion(
    matches: Iterable[tuple[_Files, list[dict]]], kind: str, thresholds: list[float | None]
) -> np.ndarray:
    """Detections of the right class are matched as for AP; what is left, by IoU alone."""
    count = len(thresholds)
    matrix = np.zeros((count + 1, count + 1), np.int64)
    for files, entries in matches:
        for row, column in _counted(files, entries, kind, thresholds):
            matrix[row, column] += 1
    return matrix


def _counted(
    files: _Files, entries: list[dict], kind: str, thresholds: list[float | None]
) -> Iterator[tuple[int, int]]:
    """Class of the object and of the detection; -1 where one of them is missing."""
    images: dict[int, tuple[list[tuple[float, int, int]], list[tuple[int, int]]]] = {}
    for entry in entries:
        category, threshold = entry["category_id"] - 1, thresholds[entry["category_id"] - 1]
        wrong, missed = images.setdefault(entry["image_id"], ([], []))
        found = set()
        for score, identity, matched, ignored in _detections(entry, "dtScores", "dtIds"):
            if threshold is None or score < threshold or ignored:
                continue
            if matched:
                found.add(matched)
            else:
                wrong.append((score, identity, category))
        yield from ((category, category) for _ in found)
        objects = zip(entry["gtIds"], entry["gtIgnore"], strict=True)
        missed += [(each, category) for each, out in objects if not out and each not in found]
    for wrong, missed in images.values():
        wrong.sort(key=lambda detection: -detection[0])
        yield from _confused(files, kind, wrong, missed)


def _confused(
    files: _Files, kind: str, wrong: list[tuple[float, int, int]], missed: list[tuple[int, int]]
) -> Iterator[tuple[int, int]]:
    """The same of what is wrong and what is missed in an image."""
    free = dict(enumerate(category for _, category in missed))
    ious = np.zeros((len(wrong), 0))
    if wrong and missed:
        found = _shapes(files.found, [identity for _, identity, _ in wrong], kind)
        expected = _shapes(files.expected, [identity for identity, _ in missed], kind)
        ious = np.asarray(hotcoco.mask.iou(found, expected, [False] * len(expected)))
    for (_, _, category), row in zip(wrong, ious, strict=True):
        overlapping = {place: row[place] for place in free if row[place] >= IOU}
        best = max(overlapping, key=overlapping.get, default=None)
        yield (-1 if best is None else free.pop(best)), category
    yield from ((category, -1) for category in free.values())


def _shapes(file: hotcoco.COCO, identities: list[int], kind: str) -> list:
    annotations = file.load_anns(identities)
    if kind == "bbox":
        return [annotation["bbox"] for annotation in annotations]
    return [file.ann_to_rle(annotation) for annotation in annotations]
