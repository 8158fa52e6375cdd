"""AP-fixed: each class has the same number of detections over the whole set, an image any number.

Dave, Dollár, Ramanan, Kirillov, Girshick: "Evaluating Large-Vocabulary Object Detectors: The Devil
is in the Details", arXiv 2102.01066, 2021. With at most 300 detections per image a class gains AP
by scores that are higher than those of other classes; here classes do not compete.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import hotcoco
import numpy as np

from gol.evaluation.inputs import CATEGORY
from gol.evaluation.lvis import IOU_THRESHOLDS, Pair, match, mean, metrics
from gol.evaluation.source import Source

_AT_ONCE = 300_000  # detections that hotcoco has at once, of one class at least
_ANY = 1 << 30  # of an image


def measure(source: Source) -> dict[str, Any]:
    """AP of masks and boxes, as :func:`gol.evaluation.protocols.evaluate_by` wants them."""
    categories = source.pair.truth.categories
    precisions = {source.kind: precision_by_class(source.pair, source.kind)}
    if source.kind == "segm":
        precisions["bbox"] = precision_by_class(source.load(with_masks=False), "bbox")
    return {
        "protocol": {
            "name": "AP-fixed",
            "iou_thresholds": [round(threshold, 2) for threshold in IOU_THRESHOLDS],
            "sizes_by": source.pair.sizes_by,
            "engine": f"hotcoco {hotcoco.__version__}",
        },
        "scores": {kind: metrics(table, categories) for kind, table in precisions.items()},
        "per_class": [
            {
                "id": category["id"],
                "name": category["name"],
                **{f"{kind}_AP": mean(p[:, :, i, 0]) for kind, p in precisions.items()},
            }
            for i, category in enumerate(categories)
        ],
    }


def precision_by_class(pair: Pair, kind: str) -> np.ndarray:
    """What :func:`gol.evaluation.lvis.match` gives, some classes at a time."""
    tables = (match(_of_classes(pair, numbers), kind, _ANY) for numbers in _classes(pair))
    return np.maximum.reduce(list(tables))  # -1 for classes whose turn it is not


def _of_classes(pair: Pair, numbers: np.ndarray) -> Pair:
    """Objects and detections of some classes alone, in all images."""
    dataset, chosen = pair.truth.dataset, {*numbers.tolist()}
    objects = [a for a in dataset["annotations"] if a["category_id"] in chosen]
    truth = replace(pair.truth, dataset={**dataset, "annotations": objects})
    rows = np.flatnonzero(np.isin(pair.found.table[:, CATEGORY], numbers))
    return replace(pair, truth=truth, found=pair.found.take(rows))


def _classes(pair: Pair) -> Iterator[np.ndarray]:
    """Numbers of classes that have so many detections together."""
    counts = np.bincount(
        pair.found.table[:, CATEGORY].astype(int), minlength=len(pair.truth.categories) + 1
    )
    group = np.cumsum(counts) // _AT_ONCE
    for each in np.unique(group[1:]):
        yield np.flatnonzero(group[1:] == each) + 1
