"""Which detection is which object by the LVIS protocol, where more is asked than hotcoco tells.

Shapes: D: detections that count, G: objects, T: IoU thresholds, C: classes by ascending id.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import hotcoco
import numpy as np

from gol.evaluation.inputs import CATEGORY, FREQUENCIES, IMAGE, SCORE, X
from gol.evaluation.lvis import OUT_OF_RANGE, Pair

Shape = dict[str, Any] | list[float]  # an RLE, or x, y, width and height
Overlap = Callable[[list[Shape], list[Shape]], np.ndarray]
RECALLS = np.linspace(0, 1, 101)


class Scene(NamedTuple):
    """One image; only detections of the classes that are annotated there or known to be absent.

    Attributes:
        classes: (D,) class of each detection, from 0, the detections by descending score.
        scores: (D,).
        found: the shapes of the D detections.
        objects: (G,) class of each object.
        ignored: (G,) whether an object is to be left out.
        expected: the shapes of the G objects.
        partly: the classes that are not annotated exhaustively.
    """

    classes: np.ndarray
    scores: np.ndarray
    found: list[Shape]
    objects: np.ndarray
    ignored: np.ndarray
    expected: list[Shape]
    partly: list[int]


@dataclass(frozen=True)
class Matches:
    """What each detection is, by class, then in the order of images, then by descending score.

    Attributes:
        objects: int (C,) how many count.
        classes: int (D,) from 0.
        scores: float (D,).
        right: bool (T, D) whether it is an object of its class.
        left_out: bool (T, D) whether it is neither right nor wrong.
        ious: float (D,) with the object that it is at the first threshold, else 0.
    """

    objects: np.ndarray
    classes: np.ndarray
    scores: np.ndarray
    right: np.ndarray
    left_out: np.ndarray
    ious: np.ndarray

    def take(self, classes: np.ndarray) -> "Matches":
        """Those of some classes, (C,) bool; the others have no objects then."""
        kept = classes[self.classes]
        columns = (self.classes[kept], self.scores[kept])
        tables = (self.right[:, kept], self.left_out[:, kept])
        return Matches(self.objects * classes, *columns, *tables, self.ious[kept])

    def each(self) -> Iterator["Matches"]:
        """One for each class."""
        ends = np.searchsorted(self.classes, np.arange(len(self.objects) + 1))
        for number, count in enumerate(self.objects):
            rows = slice(ends[number], ends[number + 1])
            columns = (self.classes[rows], self.scores[rows])
            tables = (self.right[:, rows], self.left_out[:, rows])
            yield Matches(np.array([count]), *columns, *tables, self.ious[rows])

    def precision(self) -> np.ndarray:
        """(T, 101) interpolated over recall, all detections in one ranking; -1: no object."""
        table = np.full((len(self.right), len(RECALLS)), -1.0)
        objects = self.objects.sum()
        if not objects:
            return table
        order = np.argsort(-self.scores, kind="stable")
        counted = ~self.left_out[:, order]
        right = np.cumsum(self.right[:, order] & counted, axis=1)
        either = np.cumsum(counted, axis=1)
        for row, hits, kept in zip(table, right, either, strict=True):
            values = hits / np.maximum(kept, 1)
            best = np.maximum.accumulate(values[::-1])[::-1]
            places = np.searchsorted(hits / objects, RECALLS, side="left")
            row[:] = np.append(best, 0.0)[places]
        return table


def match_all(
    pair: Pair, kind: str, thresholds: Sequence[float], overlap: Overlap | None = None
) -> Matches:
    """Matches all detections, as lvis-api does for objects of any size.

    Args:
        pair: ground truth and detections.
        kind: "segm" or "bbox".
        thresholds: T ascending IoUs.
        overlap: gives (D, G) IoUs; by default those of masks or boxes.

    Raises:
        UserError: hotcoco refuses the files.
    """
    count = len(pair.truth.categories)
    objects = np.zeros(count, np.int64)
    none = np.zeros((len(thresholds), 0), bool)
    parts: list[tuple[np.ndarray, ...]] = [(np.zeros(0, int), np.zeros(0), none, none, np.zeros(0))]
    for scene in scenes(pair, kind):
        objects += np.bincount(scene.objects[~scene.ignored], minlength=count)
        for number in np.unique(scene.classes):
            mine, here = scene.classes == number, scene.objects == number
            parts.append((scene.classes[mine], scene.scores[mine]))
            parts[-1] += _match(scene, mine, here, number in scene.partly, thresholds, overlap)
    joined = [np.concatenate(each, axis=-1) for each in zip(*parts, strict=True)]
    order = np.argsort(joined[0], kind="stable")
    return Matches(objects, *(each[..., order] for each in joined))


def _match(
    scene: Scene,
    mine: np.ndarray,
    here: np.ndarray,
    partly: bool,
    thresholds: Sequence[float],
    overlap: Overlap | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Right, left out and IoUs, as of :class:`Matches`, of an image's detections of one class."""
    found = [scene.found[i] for i in np.flatnonzero(mine)]
    expected = [scene.expected[i] for i in np.flatnonzero(here)]
    ious, ignored = (overlap or iou)(found, expected), scene.ignored[here]
    matched = greedy(ious, ignored, thresholds)
    hit = matched >= 0
    # The last column stands for no object.
    out = np.where(hit, np.append(ignored, False)[matched], partly)
    first = np.append(ious, np.zeros((len(ious), 1)), 1)[np.arange(len(ious)), matched[0]]
    return hit & ~out, out, first


def greedy(ious: np.ndarray, ignored: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """Gives each detection, the best first, the free object that it overlaps most.

    An object that is to be left out is taken only where no other is left; of equal IoUs the last.

    Args:
        ious: (D, G), the detections by descending score.
        ignored: (G,) bool.
        thresholds: T, from which on an overlap counts.

    Returns:
        (T, D) index of the object, -1 for none.
    """
    least = np.minimum(thresholds, 1 - 1e-10)[:, None]
    matched = np.full((len(least), len(ious)), -1)
    free = np.ones((len(least), len(ignored)), bool)
    for place in np.flatnonzero((ious >= least.min()).any(1)):
        fits = free & (ious[place] >= least)
        proper = fits & ~ignored
        fits = np.where(proper.any(1, keepdims=True), proper, fits)
        best = len(ignored) - 1 - np.where(fits, ious[place], -1)[:, ::-1].argmax(1)
        rows = np.flatnonzero(fits.any(1))
        matched[rows, place] = best[rows]
        free[rows, best[rows]] = False
    return matched


def iou(found: list[Shape], expected: list[Shape]) -> np.ndarray:
    """(D, G) IoUs of masks, or of boxes."""
    if not (found and expected):
        return np.zeros((len(found), len(expected)))
    return np.asarray(hotcoco.mask.iou(found, expected, [False] * len(expected)))


def groups(categories: Sequence[dict[str, Any]]) -> dict[str, np.ndarray]:
    """Bool (C,) which classes are in ``all`` and in each group of frequency."""
    frequency = np.array([category["frequency"] for category in categories])
    return {"all": frequency != "", **{group: frequency == group for group in FREQUENCIES}}


def scenes(pair: Pair, kind: str) -> Iterator[Scene]:
    """The images by ascending number.

    Raises:
        UserError: hotcoco refuses the files.
    """
    with pair.one_line():
        file = hotcoco.COCO(pair.truth.dataset)
    annotations: dict[int, list[dict[str, Any]]] = {}
    for each in pair.truth.dataset["annotations"]:
        annotations.setdefault(each["image_id"], []).append(each)
    table, masks, sizes = pair.found.table, pair.found.masks, pair.truth.sizes
    column = np.ascontiguousarray(table[:, IMAGE])
    for image in sorted(pair.truth.dataset["images"], key=lambda image: image["id"]):
        number = image["id"]
        objects = annotations.get(number, [])
        listed = {each["category_id"] for each in objects} | {*image["neg_category_ids"]}
        rows = np.arange(*np.searchsorted(column, [number, number + 1]))
        rows = rows[np.isin(table[rows, CATEGORY], [*listed])]
        rows = rows[np.argsort(-table[rows, SCORE], kind="stable")]
        if kind == "segm":
            found = [{"size": sizes[number], "counts": masks[row]} for row in rows]
            with pair.one_line():
                expected = [file.ann_to_rle(each) for each in objects]
        else:
            found, expected = table[rows, X:SCORE].tolist(), [each["bbox"] for each in objects]
        yield Scene(
            classes=table[rows, CATEGORY].astype(int) - 1,
            scores=table[rows, SCORE],
            found=found,
            objects=np.array([each["category_id"] - 1 for each in objects], int),
            ignored=np.array([each["area"] >= OUT_OF_RANGE for each in objects], bool),
            expected=expected,
            partly=[number - 1 for number in image["not_exhaustive_category_ids"]],
        )
