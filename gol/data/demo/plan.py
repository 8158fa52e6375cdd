"""Which classes the demo has, how frequent each is, and what each of its images shows."""

import math
from dataclasses import dataclass

import numpy as np

from gol.data.demo.shapes import MOST_CLASSES, Combination, combinations
from gol.errors import UserError

_LEAST = 3  # training images of the rarest class
_HEAD = 3 / 7  # share of the training images that show the most frequent class
_CROWD = 5  # objects per image, on average, at most
_VAL_LEAST = 15  # validation images of every class, where there are enough
_SECOND = 0.035  # chance of a second object of a class that is in the image
_UNLISTED = 0.02  # chance that a class in the image is not exhaustively labelled


def image_counts(
    train_images: int, val_images: int, classes: int, size: int, steepness: float = 1
) -> tuple[list[int], list[int]]:
    """Images of each class in train and val, the most frequent first.

    Raises:
        UserError: no such demo can be drawn.
    """
    if not 2 <= classes <= MOST_CLASSES:
        raise UserError(f"classes={classes}: the demo has 2 to {MOST_CLASSES:,} classes")
    if size < 48:
        raise UserError(f"size={size}: the demo's images need at least 48 pixels")
    for key, images in (("train_images", train_images), ("val_images", val_images)):
        least = max(_LEAST, math.ceil(_LEAST * classes / _CROWD))
        if images < least:
            raise UserError(f"{key}={images}: {classes} classes need at least {least}")
    most = max(round(train_images * _HEAD), _LEAST)
    train = _falling(most, classes, steepness)
    while sum(train) > _CROWD * train_images:
        most -= 1
        train = _falling(most, classes, steepness)
    least = max(1, min(_VAL_LEAST, 3 * val_images // classes))
    return train, [least + round(0.14 * val_images * count / train_images) for count in train]


def _falling(most: int, classes: int, steepness: float) -> list[int]:
    """Image counts from ``most`` to 3; with steepness 1 each is the same fraction of the last."""
    shares = [(1 - k / (classes - 1)) ** steepness for k in range(classes)]
    return [round(_LEAST * (most / _LEAST) ** share) for share in shares]


def even_order(classes: int, rng: np.random.Generator) -> list[Combination]:
    """The combinations of a set of ``classes``, most frequent class first, distractors last.

    Of 300 random orders the one in which the mean rank of every shape, hue and texture is
    nearest to the mean rank of all classes.
    """
    best, least = [], np.inf
    kinds = combinations(classes)
    for _ in range(300):
        order = [kinds[i] for i in rng.permutation(len(kinds))]
        ranks: dict[str, list[int]] = {}
        for rank, kind in enumerate(order[:classes]):
            for trait in (kind.shape, kind.hue, kind.texture):
                ranks.setdefault(trait, []).append(rank)
        unevenness = max(abs(sum(r) / len(r) - (classes - 1) / 2) for r in ranks.values())
        if unevenness < least:
            best, least = order, unevenness
    return best


@dataclass(frozen=True)
class ScenePlan:
    """What one image shows; ids are category ids."""

    ids: list[int]  # of the labelled objects
    unlabelled: list[Combination | None]  # None: a blob
    negatives: list[int]
    not_exhaustive: list[int]


def plan_scenes(
    kinds: dict[int, Combination],
    distractors: list[Combination],
    counts: list[int],
    images: int,
    rng: np.random.Generator,
) -> list[ScenePlan]:
    """Distributes the classes over ``images`` images and adds what is not labelled.

    Args:
        kinds: what to draw for each category id, the most frequent first.
        distractors: combinations that are not classes.
        counts: images of each class, in the order of ``kinds``.
        images: number of images.
        rng: source of the randomness.
    """
    plans = []
    for present in _assign(list(kinds), counts, images, rng):
        unlabelled: list[Combination | None] = [None] * int(rng.integers(0, 2))
        if distractors:
            picks = rng.integers(len(distractors), size=rng.poisson(0.5))
            unlabelled += [distractors[i] for i in picks]
        twice = [c for c in present if rng.random() < _SECOND]
        not_exhaustive = [c for c in present if rng.random() < _UNLISTED]
        absent = [c for c in sorted(kinds) if c not in present]
        negatives = rng.choice(absent, len(absent) // 2, replace=False) if absent else []
        plans.append(
            ScenePlan(
                ids=present + twice,
                unlabelled=unlabelled + [kinds[c] for c in not_exhaustive],
                negatives=sorted(int(c) for c in negatives),
                not_exhaustive=not_exhaustive,
            )
        )
    return plans


def _assign(
    ids: list[int], counts: list[int], images: int, rng: np.random.Generator
) -> list[list[int]]:
    """Classes of each image, sorted: class ``ids[k]`` is in exactly ``counts[k]`` images.

    Some images are meant to be more crowded than others; a full one attracts fewer classes.
    """
    members: list[list[int]] = [[] for _ in range(images)]
    crowd = rng.uniform(0.5, 1.5, images)
    load = np.zeros(images)
    for k in rng.permutation(len(ids)).tolist():
        # the smallest exponential variables divided by weights: sampling without replacement
        keys = rng.exponential(size=images) * (1 + load) ** 2 / crowd**2
        chosen = np.argsort(keys, kind="stable")[: counts[k]]
        load[chosen] += 1
        for image in chosen:
            members[image].append(ids[k])
    return [sorted(present) for present in members]
