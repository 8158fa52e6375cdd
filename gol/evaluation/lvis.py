"""Detections → LVIS average precision, equal to lvis-api 0.5.3 and much faster.

Protocol (Gupta et al., LVIS, CVPR 2019): AP is the mean of the precision interpolated at 101
recalls, over 10 IoU thresholds and over the categories that have ground truth. An image holds at
most 300 detections, counted over all categories. Evaluation is federated: in an image only the
categories that are annotated there or known to be absent (``neg_category_ids``) count, and where
a category is not annotated exhaustively its unmatched detections are ignored.

Small, medium and large are told apart by the annotation's ``area`` for ground truth and by the
area of the *box* for detections, for masks too. lvis-api does so whenever a result carries a box,
as mmdet's results do, so the original's numbers are of this kind. Mask results without boxes
(torchvision's, detectron2's) are binned by mask area, which changes APs, APm and APl a little.

hotcoco matches and accumulates. Where it and lvis-api differ, the input is adapted here, each
time with the reason. One case is not imitated: lvis-api counts an annotation whose id is 0 as
missed even when it is found.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import hotcoco
import numpy as np

from gol.errors import UserError, choices, plural
from gol.evaluation.inputs import (
    CATEGORY,
    FREQUENCIES,
    IMAGE,
    SCORE,
    Detections,
    GroundTruth,
    read_detections,
    read_ground_truth,
)
from gol.files import uncollected, write_json

IOU_TYPES = ("segm", "bbox")
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10).tolist()
AREA_RANGES = {  # square pixels, both ends included
    "all": [0.0, 1e5**2],
    "small": [0.0, 32.0**2],
    "medium": [32.0**2, 96.0**2],
    "large": [96.0**2, 1e5**2],
}
METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf")
_PART = 500  # images that hotcoco has at once
MOST = 300  #: detections of an image
_STREAMED = 300  # detections of an image, at which hotcoco's streaming form cuts in any case
OUT_OF_RANGE = 1e11  # square pixels: an area that no range includes


@uncollected()
def evaluate(
    annotations: str | Path,
    detections: str | Path,
    iou_types: Sequence[str] | None = None,
    max_detections: int = MOST,
) -> dict[str, Any]:
    """Average precision of a detections file under the LVIS protocol.

    Args:
        annotations: JSON in the LVIS schema, with frequency groups r, c, f.
        detections: JSON list of ``{image_id, category_id, score, bbox, segmentation}``; ``bbox``
            is [x, y, width, height] in pixels, ``segmentation`` a compressed RLE
            ``{size: [height, width], counts}`` of the whole image (not read for "bbox" alone).
            Without ``bbox`` the masks' boxes and areas count, as in lvis-api.
        iou_types: "segm", "bbox" or both; default both, and "bbox" alone where no detection has
            a mask (Faster R-CNN).
        max_detections: how many detections an image may have; the best by score are kept, and
            of equal scores those that come first in the file.

    Returns:
        ``protocol``, ``engine``, ``images`` and ``detections`` (counts), for each IoU type a dict
        of METRICS, and ``per_class``: a list of ``{id, name, frequency, image_count, segm_AP,
        bbox_AP}`` by ascending id. Values are floats in [0, 1], or None where there is no
        ground truth.

    Raises:
        UserError: a file is unreadable or not of its schema, an id is unknown, a number is not
            finite, or an argument is out of range.
    """
    if iou_types is not None and (not iou_types or set(iou_types) - set(IOU_TYPES)):
        raise UserError(f"iou_types {list(iou_types)}: allowed are {choices(IOU_TYPES)}")
    if max_detections < 1:
        raise UserError(f"max_detections is {max_detections}: it must be at least 1")
    with_masks = None if iou_types is None else "segm" in iou_types
    pair = load_pair(annotations, detections, with_masks, max_detections)
    if iou_types is None:
        iou_types = IOU_TYPES if pair.with_masks else ("bbox",)
    precisions = {kind: match(pair, kind, max_detections) for kind in iou_types}
    categories = pair.truth.categories
    return {
        "protocol": _protocol(max_detections, pair.sizes_by),
        "engine": f"hotcoco {hotcoco.__version__}",
        "images": len(pair.truth.images),
        "detections": pair.count,
        **{kind: metrics(precision, categories) for kind, precision in precisions.items()},
        "per_class": _per_class(precisions, categories),
    }


class Part(NamedTuple):
    """Some images of a :class:`Pair`, as hotcoco takes them.

    Attributes:
        images: their entries.
        annotations: the objects in them.
        found: the detections that count: a table (D, 7), or a list of D dicts where their size is
            that of their mask.
        masks: D RLE masks beside a table, or None.
    """

    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    found: np.ndarray | list[dict[str, Any]]
    masks: list[dict[str, Any]] | None


@dataclass(frozen=True)
class Pair:
    """Ground truth and detections, adapted so that hotcoco counts as lvis-api does.

    Attributes:
        truth: the ground truth; its categories, images and annotations have numbers from 1 on.
        found: the detections that count, by ascending image, within it in the file's order.
        per_image: how many detections the file has of each image, int (images,) by number.
        per_class: of each class, int (C,).
        name: of both files, for messages.
    """

    truth: GroundTruth
    found: Detections
    per_image: np.ndarray
    per_class: np.ndarray
    name: str

    @property
    def count(self) -> int:
        """How many detections the file has."""
        return int(self.per_class.sum())

    @property
    def with_masks(self) -> bool:
        """Whether the detections have masks."""
        return self.found.masks is not None

    @property
    def sizes_by(self) -> str:
        """What tells small and large detections apart."""
        return "box area" if self.found.boxes else "mask area"

    def parts(self, size: int | None = None, masks: bool = True) -> Iterator[Part]:
        """All of it, some images at a time: hotcoco's own copies are several times as large.

        Args:
            size: number of images.
            masks: whether the detections' masks are needed.
        """
        size = size or _PART
        objects: dict[int, list[dict[str, Any]]] = {}
        for annotation in self.truth.dataset["annotations"]:
            objects.setdefault(annotation["image_id"], []).append(annotation)
        images = sorted(self.truth.dataset["images"], key=lambda image: image["id"])
        for start in range(0, len(images), size):
            chosen = images[start : start + size]
            ends = [chosen[0]["id"], chosen[-1]["id"] + 1]
            begin, end = np.searchsorted(self.found.table[:, IMAGE], ends)
            annotations = [a for image in chosen for a in objects.get(image["id"], ())]
            yield Part(chosen, annotations, *self._found(slice(begin, end), masks))

    def _found(
        self, rows: slice, with_masks: bool
    ) -> tuple[np.ndarray | list[dict], list[dict] | None]:
        table = self.found.table[rows]
        if self.found.masks is None or (self.found.boxes and not with_masks):
            return table, None
        numbers = table[:, IMAGE].tolist()
        masks = [
            {"size": self.truth.sizes[image], "counts": counts}
            for image, counts in zip(numbers, self.found.masks[rows], strict=True)
        ]
        if self.found.boxes:
            return table, masks
        keys = ("image_id", "category_id", "score", "segmentation")
        values = zip(map(int, numbers), *table[:, [CATEGORY, SCORE]].T.tolist(), masks, strict=True)
        return [dict(zip(keys, each, strict=True)) for each in values], None

    def load(self, part: Part) -> tuple[hotcoco.COCO, hotcoco.COCO]:
        """A part's ground truth and detections, whose ids are their places in it, from 1 on."""
        with self.one_line():
            dataset = {"images": part.images, "annotations": part.annotations}
            expected = hotcoco.COCO({**self.truth.dataset, **dataset})
            found = expected.load_res(part.found, segmentation=part.masks)
            # The list is cut already; None keeps hotcoco from cutting it again at 300.
            return expected, found.cap_detections_per_image(None)

    @contextmanager
    def one_line(self) -> Iterator[None]:
        """What hotcoco finds in the files that was not found before, as one line."""
        try:
            yield
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"cannot evaluate {self.name}: {error}") from error


def load_pair(
    annotations: str | Path,
    detections: str | Path,
    with_masks: bool | None,
    most: int,
    of: int = IMAGE,
    by_mask: bool = False,
) -> Pair:
    """Reads and checks both files; see :func:`evaluate`.

    Args:
        annotations: JSON in the LVIS schema.
        detections: JSON list of detections.
        with_masks: as of :func:`gol.evaluation.inputs.read_detections`.
        most: how many detections an image (IMAGE) or a class (CATEGORY) may have.
        of: which of these columns.
        by_mask: whether sizes are those of masks, where there are any.

    Raises:
        UserError: a file is unreadable or not of its schema.
    """
    truth = read_ground_truth(annotations)
    read = read_detections(detections, truth, with_masks)
    if by_mask and read.masks is not None:
        read = read.sized_by_mask(truth.sizes)
    _like_lvis_api(truth.dataset)
    kept = _kept(read, most, of)
    name = f"{detections} against {annotations}"
    per_image, per_class = (
        np.bincount(read.table[:, column].astype(int), minlength=1 + len(entries))[1:]
        for column, entries in ((IMAGE, truth.images), (CATEGORY, truth.categories))
    )
    return Pair(truth, read.take(kept), per_image, per_class, name)


def match(
    pair: Pair,
    iou_type: str,
    max_detections: int,
    areas: Mapping[str, Sequence[float]] = AREA_RANGES,
) -> np.ndarray:
    """Precision by the LVIS protocol.

    Returns:
        Float64 (10 IoU thresholds, 101 recalls, categories by id, areas); -1: no ground truth.

    Raises:
        UserError: hotcoco refuses the files.
    """
    params = parameters(iou_type, max_detections, IOU_THRESHOLDS, areas)
    categories = pair.truth.dataset["categories"]
    if max_detections > _STREAMED:
        (part,) = pair.parts(len(pair.truth.images))
        engine = hotcoco.COCOeval(*pair.load(part), iou_type, lvis_style=True)
        engine.params = params
        engine.evaluate()
    else:
        stream = hotcoco.StreamingEval(categories, iou_type, lvis_style=True, params=params)
        with pair.one_line():
            for part in pair.parts(masks=iou_type == "segm"):
                stream.update(part.images, part.annotations, part.found, segmentation=part.masks)
        engine = stream.finalize()
    engine.accumulate()
    precision = engine.eval["precision"]
    return precision.reshape(*precision.shape[:3], len(areas))


def parameters(
    iou_type: str,
    max_detections: int,
    thresholds: Sequence[float],
    areas: Mapping[str, Sequence[float]],
) -> hotcoco.Params:
    """hotcoco's parameters of the LVIS protocol."""
    params = hotcoco.Params(iou_type)
    params.iou_thrs = list(thresholds)
    params.area_rng, params.area_rng_lbl = [[*each] for each in areas.values()], list(areas)
    params.max_dets = [max_detections]  # of one class here: all that _kept has left
    return params


def _protocol(max_detections: int, sizes_by: str) -> dict[str, Any]:
    """What the numbers depend on, for the result's readers."""
    return {
        "name": "LVIS",
        "iou_thresholds": [round(threshold, 2) for threshold in IOU_THRESHOLDS],
        "recall_points": 101,
        "max_detections": max_detections,
        "area_ranges": AREA_RANGES,
        "sizes_by": sizes_by,
    }


def evaluate_file(
    annotations: str | Path, detections: str | Path, out: str | Path, max_detections: int = MOST
) -> dict[str, Any]:
    """Evaluates masks and boxes, writes the result as JSON to ``out`` and returns it.

    Where detections have no masks, the mask values are None.

    Raises:
        UserError: as ``evaluate``, or ``out`` cannot be written.
    """
    result = evaluate(annotations, detections, max_detections=max_detections)
    result.setdefault("segm", dict.fromkeys(METRICS))
    for entry in result["per_class"]:
        entry.setdefault("segm_AP", None)
    write_json(out, result, indent=1, writer="gol evaluate")
    return result


def format_metrics(result: dict[str, Any]) -> str:
    """The result of ``evaluate`` as a few aligned lines, in percent; "-": no ground truth."""
    protocol, thresholds = result["protocol"], result["protocol"]["iou_thresholds"]
    lines = [
        f"{protocol['name']} protocol: IoU {thresholds[0]:.2f}:{thresholds[-1]:.2f}, at most "
        f"{protocol['max_detections']} detections per image, sizes by {protocol['sizes_by']}",
        f"{result['engine']}: {plural(result['detections'], 'detection')} on "
        f"{plural(result['images'], 'image')}",
        " " * 4 + "".join(f"{name:>7}" for name in METRICS),
    ]
    for kind in (kind for kind in IOU_TYPES if kind in result):
        values = (result[kind][name] for name in METRICS)
        cells = ("-" if value is None else f"{100 * value:.1f}" for value in values)
        lines.append(kind + "".join(f"{cell:>7}" for cell in cells))
    return "\n".join(lines)


def _like_lvis_api(dataset: dict[str, Any]) -> None:
    """Changes ground truth so that hotcoco treats it as lvis-api would.

    LVIS has no crowds: lvis-api never reads ``iscrowd``, and hotcoco is not handed it.
    """
    # lvis-api drops an annotation without area, which also takes its category off the image.
    dataset["annotations"] = [a for a in dataset["annotations"] if a["area"] > 0]
    for annotation in dataset["annotations"]:
        # lvis-api honours this flag, hotcoco does not: out of all ranges means the same to both.
        if annotation.pop("ignore"):
            annotation["area"] = OUT_OF_RANGE


def _kept(read: Detections, most: int, of: int = IMAGE) -> np.ndarray:
    """Indices of the detections that lvis-api evaluates, by image, then in the file's order."""
    # Cut here, as lvis-api does, over all classes and before those without area are dropped.
    order = np.lexsort((-read.table[:, SCORE], read.table[:, of]))
    group = read.table[order, of]
    rank = np.arange(len(order)) - np.searchsorted(group, group)
    # Within an image it is the file's order by which both engines break ties in score.
    kept = np.sort(order[rank < most])
    kept = kept[np.argsort(read.table[kept, IMAGE], kind="stable")]
    # lvis-api drops boxes without area, and their masks with them; hotcoco would count them.
    return kept[read.areas[kept] > 0]


def mean(precision: np.ndarray) -> float | None:
    """The mean of what is not -1; None if all is."""
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def metrics(precision: np.ndarray, categories: list[dict[str, Any]]) -> dict[str, float | None]:
    """METRICS of what :func:`match` gives; without the areas, those that need them are left out."""
    every = precision[..., 0]
    frequency = np.array([category["frequency"] for category in categories])
    return {
        "AP": mean(every),
        "AP50": mean(every[IOU_THRESHOLDS.index(0.5)]),
        "AP75": mean(every[IOU_THRESHOLDS.index(0.75)]),
        **{
            f"AP{size[0]}": mean(precision[..., i])
            for i, size in enumerate(AREA_RANGES)
            if 0 < i < precision.shape[3]
        },
        **{f"AP{group}": mean(every[:, :, frequency == group]) for group in FREQUENCIES},
    }


def _per_class(
    precisions: dict[str, np.ndarray], categories: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    return [
        {
            "id": category["id"],
            "name": category["name"],
            "frequency": category["frequency"],
            "image_count": count if type(count := category.get("image_count")) is int else None,
            **{f"{kind}_AP": mean(p[:, :, index, 0]) for kind, p in precisions.items()},
        }
        for index, category in enumerate(categories)
    ]
