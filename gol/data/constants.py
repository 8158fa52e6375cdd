"""Constants that follow from a training set's class counts, as LVIS's do from its own.

LVIS calls a class rare up to 10 and common up to 100 training images. The other constants are tied
to the second cut: as a share of the 99,388 annotated images of LVIS v1, 100 images are 0.001006, of
the 56,740 of v0.5 0.00176. Repeat factors begin below 0.001, and DropLoss and EQL take a class as
rare below 0.0011 (v0.5: 0.00177), which is every class up to the second cut. The rule:

- *cuts*: 10 and 100, moved no further than it takes for each group to have a fifth of the classes
  that have images at all (counts that many classes share may leave less);
- *repeat_threshold*: the common cut / annotated images, cut to two digits;
- *rare_frequency*: the next number of two digits, so that classes at the cut itself are below it;
- *iterations* (a schedule's ``max_iters: auto``): 12 epochs (the schedule 1x), but at least 20,000
  images and at most as many as 1x has on LVIS v1; no image more than 100 times.

On LVIS v1 this gives 10, 100, 0.001, 0.0011 and 12 epochs.
"""

import math
from bisect import bisect
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

from gol.groups import THRESHOLDS

if TYPE_CHECKING:  # it brings torch along, which launching does without
    from gol.losses.class_statistics import ClassStatistics

_LEAST = 0.2  # share of the classes that a group should have
_EPOCHS, _MOST_EPOCHS = 12, 100
_LEAST_IMAGES, _MOST_IMAGES = 20_000, 12 * 99_388  # that a training sees


@dataclass(frozen=True)
class Constants:
    """What follows from the counts.

    Attributes:
        thresholds: the most training images of a rare and of a common class.
        repeat_threshold: share of the images below which repeat factors begin.
        rare_frequency: share of the images below which DropLoss and EQL call a class rare.
        seen: images that training should see, each as often as it is shown.
    """

    thresholds: tuple[int, int]
    repeat_threshold: float
    rare_frequency: float
    seen: int

    @classmethod
    def of(cls, statistics: "ClassStatistics") -> "Constants":
        """The constants of a training set."""
        images = max(statistics.annotated_images, 1)
        thresholds = frequency_cuts(statistics.image_counts)
        share = min(thresholds[1] / images, 0.99)
        unit = 10.0 ** (math.floor(math.log10(share)) - 1)
        digits = math.floor(share / unit + 1e-9)
        places = round(-math.log10(unit))
        seen = min(max(_EPOCHS * images, _LEAST_IMAGES), _MOST_IMAGES, _MOST_EPOCHS * images)
        return cls(
            thresholds, round(digits * unit, places), round((digits + 1) * unit, places), seen
        )

    def text(self, keys: Collection[str], iterations: int | None = None) -> str:
        """Those of some keys in words; ``iterations``: what becomes of the images to be seen."""
        rare, common = self.thresholds
        words = {
            "thresholds": f"rare up to {rare}, common up to {common} images",
            "repeat_threshold": f"repeat factors below {self.repeat_threshold:g} of the images",
            "rare_frequency": f"DropLoss and EQL below {self.rare_frequency:g}",
            "seen": f"max_iters: auto sees {self.seen:,} images",
        }
        if iterations:
            words["seen"] += f" in {iterations:,} iterations"
        return f"from the class counts: {'; '.join(words[key] for key in keys)}"


def iterations(constants: Constants | None, batch: int) -> int:
    """Iterations of ``batch`` images each; before the classes are counted the usual least."""
    return math.ceil((constants.seen if constants else _LEAST_IMAGES) / batch)


def _nearest_fair(counts: Sequence[int]) -> tuple[int, int] | None:
    """The cuts nearest to LVIS's, as ratios, that leave each group its share of sorted counts."""
    need = math.ceil(_LEAST * len(counts) - 1e-9)
    found = []
    for least, above in pairwise(sorted(set(counts))):
        rare, below = min(max(THRESHOLDS[0], least), above - 1), bisect(counts, least)
        if need <= below <= len(counts) - 2 * need:
            lowest, highest = counts[below + need - 1], counts[-need] - 1
            if lowest <= highest:
                found.append((rare, min(max(THRESHOLDS[1], lowest), highest)))

    def distance(cuts: tuple[int, int]) -> float:
        return sum(abs(math.log(n / m)) for n, m in zip(cuts, THRESHOLDS, strict=True))

    return min(found, key=distance, default=None)


def frequency_cuts(image_counts: Sequence[int]) -> tuple[int, int]:
    """The most images of a rare and of a common class.

    Args:
        image_counts: number of training images of each class.

    Returns:
        LVIS's 10 and 100 where each group has a fifth of the classes with them; otherwise the
        nearest cuts of which that is true, or which at least leave no group empty that need not be.
    """
    counts = sorted(count for count in image_counts if count)
    distinct = sorted(set(counts))
    if len(distinct) < 2:
        return THRESHOLDS
    if cuts := _nearest_fair(counts):
        return cuts

    def highest(share: float) -> int:
        """The highest count up to which there are no more classes than this share, or the least."""
        room = share * len(counts) + 1e-9
        return max((n for n in distinct if bisect(counts, n) <= room), default=distinct[0])

    rare = min(max(THRESHOLDS[0], counts[int(_LEAST * len(counts))]), highest(1 - 2 * _LEAST))
    common = min(max(THRESHOLDS[1], counts[int(2 * _LEAST * len(counts))]), highest(1 - _LEAST))
    common = max(min(common, distinct[-2]), distinct[min(1, len(distinct) - 2)])
    *lower, highest_common = [n for n in distinct if n <= common]
    if not lower:  # of two counts one is frequent
        return highest_common - 1, highest_common
    if highest_common <= rare:
        rare = lower[-1]
    rare = max(rare, lower[0])
    few, upto = _LEAST * len(counts) - 1e-9, partial(bisect, counts)
    if upto(common) - upto(rare) < few:  # rare may have some to spare
        fair = (n for n in lower if min(upto(n), upto(common) - upto(n)) >= few)
        rare = max(fair, default=rare)
    return rare, common
