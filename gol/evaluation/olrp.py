"""oLRP: the least localisation-recall-precision error that a score threshold reaches in a class.

Oksuz, Cam, Kalkan, Akbas: "One Metric to Measure Them All: Localisation Recall Precision (LRP) for
Evaluating Visual Detection Tasks", TPAMI 2021. Of the detections from a score on, N_TP are right
at IoU 0.5, N_FP are wrong, and N_FN objects are missed; the error is

    LRP = (sum over the right ones of (1 - IoU) / (1 - 0.5) + N_FP + N_FN) / (N_TP + N_FP + N_FN).

Unlike AP it needs no interpolation, looks at boxes and masks finer than by a threshold, and names
the score threshold to use a detector with. Lower is better.
"""

from typing import Any, NamedTuple

import numpy as np

from gol.evaluation.matches import Matches, groups
from gol.evaluation.source import Source

TAU = 0.5


class Optimum(NamedTuple):
    """A class at its best threshold; all but that in [0, 1].

    Attributes:
        olrp: the error; 1 where no detection is right.
        loc: mean 1 - IoU of the right detections.
        fp: share of the kept detections that are wrong.
        fn: share of the objects that are missed.
        threshold: from which score on detections are kept.
    """

    olrp: float = 1.0
    loc: float | None = None
    fp: float | None = None
    fn: float = 1.0
    threshold: float | None = None


def measure(source: Source) -> dict[str, Any]:
    """Means over the classes with objects, as ``evaluate_by`` wants them.

    As its authors do, Loc and FP leave out the classes without a right detection.
    """
    categories = source.pair.truth.categories
    best = [optimum(each) if each.objects[0] else None for each in source.matches.each()]
    rows = {
        name: [found for found, member in zip(best, members, strict=True) if found and member]
        for name, members in groups(categories).items()
    }
    return {
        "protocol": {"name": "oLRP", "tau": TAU},
        "scores": {name: _row(found) for name, found in rows.items()},
        "per_class": [
            {"id": category["id"], "name": category["name"], **(found._asdict() if found else {})}
            for category, found in zip(categories, best, strict=True)
        ],
    }


def optimum(matches: Matches) -> Optimum:
    """The best threshold of one class with objects; of several the highest."""
    counted = ~matches.left_out[0]
    scores, right = matches.scores[counted], matches.right[0, counted]
    if not right.any():
        return Optimum()
    order = np.argsort(-scores, kind="stable")
    scores, right, ious = scores[order], right[order], matches.ious[counted][order]
    last = np.append(scores[1:] != scores[:-1], True)  # equal scores are kept or dropped together
    kept = np.arange(1, len(scores) + 1)[last]
    hits, lost = np.cumsum(right)[last], np.cumsum(np.where(right, 1 - ious, 0))[last]
    objects = int(matches.objects[0])
    missed = objects - hits
    errors = (lost / (1 - TAU) + kept - hits + missed) / (kept + missed)
    place = int(errors.argmin())
    hit = hits[place]
    return Optimum(
        olrp=float(errors[place]),
        loc=float(lost[place] / hit) if hit else None,
        fp=float(1 - hit / kept[place]) if hit else None,
        fn=float(missed[place] / objects),
        threshold=float(scores[last][place]),
    )


def _row(found: list[Optimum]) -> dict[str, float | int | None]:
    columns = {"oLRP": "olrp", "Loc": "loc", "FP": "fp", "FN": "fn"}
    values = {name: [getattr(each, key) for each in found] for name, key in columns.items()}
    there = {name: [v for v in listed if v is not None] for name, listed in values.items()}
    means = {name: float(np.mean(v)) if v else None for name, v in there.items()}
    return means | {"classes": len(found)}
