"""Calibration error: how far scores are from the share of detections that are right.

The expected calibration error (Guo et al., ICML 2017) of detections, as Küppers et al. (CVPR
Workshops 2020) define it, over scores alone: in ten bins of equal width the mean score less the
precision at IoU 0.5, absolute, weighted by the bin's detections. What the protocol leaves out
counts as neither right nor wrong.
"""

from typing import Any

import numpy as np

from gol.errors import UserError, shown
from gol.evaluation.matches import Matches, groups
from gol.evaluation.source import Source

BINS = 10


def measure(source: Source) -> dict[str, Any]:
    """Errors of each group of classes and of each class, as ``evaluate_by`` wants them.

    Raises:
        UserError: a score is not from 0 to 1.
    """
    matches, categories = source.matches, source.pair.truth.categories
    outside = (matches.scores < 0) | (matches.scores > 1)
    if outside.any():
        score = shown(float(matches.scores[outside.argmax()]))
        raise UserError(f"{source.pair.name}: calibration wants scores from 0 to 1, not {score}")
    members = groups(categories)
    return {
        "protocol": {"name": "Calibration error", "iou": 0.5, "bins": BINS},
        "scores": {name: errors(matches.take(chosen)) for name, chosen in members.items()},
        "per_class": [
            {"id": category["id"], "name": category["name"], **errors(each)}
            for category, each in zip(categories, matches.each(), strict=True)
        ],
    }


def errors(matches: Matches) -> dict[str, float | int | None]:
    """Expected (ECE) and largest (MCE) error, mean score, precision and count of detections."""
    counted = ~matches.left_out[0]
    scores, right = matches.scores[counted], matches.right[0, counted]
    count = len(scores)
    if not count:
        return dict.fromkeys(("ECE", "MCE", "score", "precision"), None) | {"counted": 0}
    place = np.minimum((scores * BINS).astype(int), BINS - 1)
    number, score, hits = (
        np.bincount(place, weights, BINS) for weights in (np.ones(count), scores, right)
    )
    gaps = np.abs(score - hits)
    return {
        "ECE": float(gaps.sum() / count),
        "MCE": float((gaps / np.maximum(number, 1)).max()),
        "score": float(scores.mean()),
        "precision": float(right.mean()),
        "counted": count,
    }
