"""Means over few seeds with intervals and tests that count the seeds and the images, too.

What varies is the training, over S seeds, and which images AP is measured on, over R resamples of
them. The variance of a mean over seeds is the sum of

- that of the seeds, s² / S, which a bootstrap over seeds converges to but for its factor of
  (S - 1) / S; with five seeds nothing is gained by drawing it;
- that of the mean on the resampled images, the same images for all seeds.

The first has S - 1 degrees of freedom, the second as many as make no difference; Satterthwaite's
formula combines them, and Student's t gives interval and p. Percentiles of the resampled means are
of no use here: AP of images drawn twice is too high, and of five seeds they cover too little.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the seeds.
        low: lower end of its 95 % interval.
        high: upper end.
        p: two-sided, of the mean being 0.
    """

    mean: float
    low: float
    high: float
    p: float


def estimate(values: np.ndarray, resampled: np.ndarray) -> Estimate:
    """The mean of a number, or of a paired difference, over seeds.

    Args:
        values: of each seed on all images, (S,), S at least 2.
        resampled: the same on resampled images, (S, R).
    """
    from scipy.stats import t

    seeds, mean = len(values), float(np.mean(values))
    of_seeds = float(np.var(values, ddof=1)) / seeds
    of_images = float(np.var(resampled.mean(axis=0), ddof=1))
    variance = of_seeds + of_images
    if variance == 0:
        return Estimate(mean, mean, mean, float(mean == 0))
    freedom = (seeds - 1) * (variance / of_seeds) ** 2 if of_seeds else math.inf
    error = math.sqrt(variance)
    half = float(t.ppf(0.975, freedom)) * error
    return Estimate(mean, mean - half, mean + half, float(2 * t.sf(abs(mean) / error, freedom)))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number by Holm's method, in the order given, at most 1.

    What stays below 0.05 is real with at most 5 % of risk for all of them together.
    """
    order = sorted(range(len(p)), key=p.__getitem__)
    corrected, highest = [0.0] * len(p), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p) - rank) * p[index]))
        corrected[index] = highest
    return corrected
