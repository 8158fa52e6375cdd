"""AP-pool: one ranking of the detections of all classes, so that scores must compare across them.

Dave et al., arXiv 2102.01066, 2021, on the detections of AP-fixed. Of equal scores that of the
class with the lower id comes first, then that of the image that comes first.
"""

from typing import Any

import numpy as np

from gol.evaluation.lvis import IOU_THRESHOLDS, mean
from gol.evaluation.matches import groups
from gol.evaluation.source import Source


def measure(source: Source) -> dict[str, Any]:
    """AP of each group of classes, pooled; as ``evaluate_by`` wants it."""
    members = groups(source.pair.truth.categories)
    return {
        "protocol": {
            "name": "AP-pool",
            "iou_thresholds": [round(threshold, 2) for threshold in IOU_THRESHOLDS],
        },
        "scores": {name: _row(source, chosen) for name, chosen in members.items()},
        "per_class": [],
    }


def _row(source: Source, classes: np.ndarray) -> dict[str, Any]:
    matches = source.matches.take(classes)
    precision = matches.precision()
    places = {"AP": slice(None), "AP50": 0, "AP75": IOU_THRESHOLDS.index(0.75)}
    values = {name: mean(precision[place]) for name, place in places.items()}
    return values | {"objects": int(matches.objects.sum())}
