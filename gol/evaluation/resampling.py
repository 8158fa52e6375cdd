"""AP on resampled images: what a bootstrap asks for, from one matching of detections and objects.

A resample is a weight for each image: how often it was drawn. AP by the LVIS protocol of
``gol.evaluation.lvis`` is what it would be with the image in the data so often. R: resamples,
I: images, D: detections of a class.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

import hotcoco
import numpy as np

from gol.evaluation.inputs import FREQUENCIES
from gol.evaluation.lvis import AREA_RANGES, IOU_THRESHOLDS, MOST, Pair, load_pair, parameters
from gol.evaluation.matches import RECALLS

_ALL = {"all": AREA_RANGES["all"]}


def draw_images(images: int, resamples: int, seed: int = 0) -> np.ndarray:
    """Weights, float64 (resamples + 1, images): first every image once, then as drawn at random.

    The same arguments give the same weights, so that runs are compared on the same images.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    return np.vstack([np.ones(images), drawn])


def resampled_ap(
    annotations: str | Path,
    detections: str | Path,
    resamples: int,
    seed: int = 0,
    max_detections: int = MOST,
) -> dict[str, np.ndarray]:
    """AP, APr, APc and APf of the detections as they are and on resampled images.

    Args:
        annotations: JSON in the LVIS schema.
        detections: JSON list of detections; masks count, or boxes where there are none.
        resamples: how many.
        seed: of the drawing.
        max_detections: of an image.

    Returns:
        For each metric float64 (resamples + 1,) in [0, 1], the value of all images first; NaN
        where no class of a group has an object.

    Raises:
        UserError: a file is unreadable or not of its schema.
    """
    pair = load_pair(annotations, detections, None, max_detections)
    numbers = sorted(image["id"] for image in pair.truth.dataset["images"])
    weights = draw_images(len(numbers), resamples, seed)
    aps = np.full((len(weights), len(pair.truth.categories)), np.nan)
    for category, entries in groupby(_entries(pair, max_detections), _category):
        aps[:, category - 1] = _class_ap([*entries], weights, numbers)
    groups = np.array([category["frequency"] for category in pair.truth.categories])
    parts = {f"AP{group}": aps[:, groups == group] for group in FREQUENCIES}
    return {name: _mean(values) for name, values in {"AP": aps, **parts}.items()}


def _entries(pair: Pair, max_detections: int) -> list[dict[str, Any]]:
    """What hotcoco says of each class and image, by class, then by image."""
    kind, entries = "segm" if pair.with_masks else "bbox", []
    for part in pair.parts():
        engine = hotcoco.COCOeval(*pair.load(part), kind, lvis_style=True)
        engine.params = parameters(kind, max_detections, IOU_THRESHOLDS, _ALL)
        engine.evaluate()
        entries += [entry for entry in engine.eval_imgs if entry]
    return sorted(entries, key=lambda entry: (_category(entry), entry["image_id"]))


def _category(entry: dict[str, Any]) -> int:
    return entry["category_id"]


def _class_ap(entries: list[dict[str, Any]], weights: np.ndarray, numbers: list[int]) -> np.ndarray:
    """AP of a class, float64 (R,); NaN where no image that was drawn has an object of it."""
    places = np.searchsorted(numbers, [entry["image_id"] for entry in entries])
    counts = np.array([entry["gtIgnore"].count(False) for entry in entries])
    objects = weights[:, places] @ counts
    scores = np.concatenate([entry["dtScores"] for entry in entries])
    order = np.argsort(-scores, kind="stable")
    image = np.repeat(places, [len(entry["dtScores"]) for entry in entries])[order]
    matched = np.hstack([np.array(entry["dtMatches"]) for entry in entries])[:, order] > 0
    ignored = np.hstack([np.array(entry["dtIgnore"], bool) for entry in entries])[:, order]
    drawn, total = weights[:, image], np.zeros(len(weights))
    with np.errstate(divide="ignore", invalid="ignore"):
        for right, out in zip(matched & ~ignored, ignored, strict=True):
            hits = np.flatnonzero(right)
            if len(hits):
                found = drawn[:, hits].cumsum(axis=1)
                precision = np.nan_to_num(found / (drawn * ~out).cumsum(axis=1)[:, hits])
                highest = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
                # How many of the 101 recalls each hit is the first to reach.
                reached = np.searchsorted(RECALLS, found / objects[:, None], side="right")
                total += (np.diff(reached, prepend=0) * highest).sum(axis=1)
    return np.where(objects > 0, total / (len(RECALLS) * len(matched)), np.nan)


def _mean(values: np.ndarray) -> np.ndarray:
    """The mean of each row's numbers; NaN where it has none."""
    there = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(there, values, 0).sum(axis=1) / there.sum(axis=1)
