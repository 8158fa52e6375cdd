"""The best detections of each class over all images, found before a mask is made.

A first pass over the images takes scores alone. Its floors rise as classes fill; in the end they
are exact, and a second pass makes the masks of what is above them. Of equal scores the image that
comes first in the annotations wins, and within an image the detection that suppression put first;
neither ranks nor batches matter.

Shapes: C: classes, D: detections.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch

from gol.engine.distributed import Ranks

LEAST = np.nextafter(np.float32(0), np.float32(1))  # a score of 0 is none
_PENDING = 4 << 20  # detections that wait to be compared


class Cutoffs(NamedTuple):
    """The last detection of each class that is kept.

    Attributes:
        scores: (C,) float32.
        images: (C,) its image's place in the annotations.
        places: (C,) its place among those of its image and class.
    """

    scores: np.ndarray
    images: np.ndarray
    places: np.ndarray

    def keeps(self, image: int, label: int, place: int, score: float) -> bool:
        """Whether a detection comes before that one, or is it."""
        last = self.scores[label]
        return score > last or (
            score == last and (image, place) <= (self.images[label], self.places[label])
        )


class Best:
    """The ``most`` best detections of each class so far.

    Args:
        classes: C.
        most: of each class.

    Attributes:
        floors: (C,) float32; what is below is not among the best.
    """

    def __init__(self, classes: int, most: int) -> None:
        self.most, self.floors = most, np.full(classes, LEAST)
        self._columns = [np.zeros(0, t) for t in (np.int32, np.float32, np.int32, np.int32)]
        self._pending: list[tuple[np.ndarray, ...]] = []
        self._waiting = 0

    def add(self, image: int, scores: Sequence[np.ndarray]) -> None:
        """Takes the scores of an image's detections, C arrays in descending order."""
        counts = [len(each) for each in scores]
        labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        places = np.concatenate([np.arange(count, dtype=np.int32) for count in counts])
        values = np.concatenate(scores).astype(np.float32, copy=False)
        kept = values >= self.floors[labels]
        images = np.full(int(kept.sum()), image, np.int32)
        self._pending.append((labels[kept], values[kept], images, places[kept]))
        self._waiting += len(images)
        if self._waiting > max(_PENDING, len(self._columns[0])):
            self._compare()

    def cutoffs(self, ranks: Ranks) -> Cutoffs:
        """The exact ones of all ranks together; called on each."""
        self._compare()
        found = ranks.gather(self._columns)
        if found is not None:
            self._pending = found
            self._compare()
        return ranks.broadcast(self._last())

    def _compare(self) -> None:
        """Drops what is not among the best; what stays is by class, the best first."""
        parts = [tuple(self._columns), *self._pending]
        self._pending, self._waiting = [], 0
        columns = [np.concatenate(each) for each in zip(*parts, strict=True)]
        labels, values, images, places = columns
        order = np.lexsort((places, images, -values, labels))
        ranks = np.arange(len(order)) - np.searchsorted(labels[order], labels[order])
        order = order[ranks < self.most]
        self._columns = [column[order] for column in columns]
        full, last = self._full()
        self.floors[full] = self._columns[1][last]

    def _full(self) -> tuple[np.ndarray, np.ndarray]:
        """The classes with all they may have, and the rows of their last."""
        labels = self._columns[0]
        ends = np.searchsorted(labels, np.arange(len(self.floors)), side="right")
        full = np.flatnonzero(np.diff(ends, prepend=0) == self.most)
        return full, ends[full] - 1

    def _last(self) -> Cutoffs:
        everything = np.iinfo(np.int32).max
        last = Cutoffs(
            self.floors, *(np.full(len(self.floors), everything, np.int32) for _ in range(2))
        )
        full, rows = self._full()
        last.images[full], last.places[full] = self._columns[2][rows], self._columns[3][rows]
        return last


def find_cutoffs(
    detector: torch.nn.Module,
    results: Callable[[], Iterator[tuple[list[int], list]]],
    most: int,
    classes: int,
    ranks: Ranks,
) -> Cutoffs:
    """The first pass over this rank's images; afterwards the detector's floors are exact.

    Args:
        detector: as :func:`gol.engine.detect.build_scorer` gives it, with weights.
        results: gives indices of images and mmdet's results of boxes, batch by batch.
        most: detections of each class.
        classes: C.
        ranks: this process among the others.

    Raises:
        UserError: the detector has unusual box heads.
    """
    from gol.models.postprocess import set_floors

    best = Best(classes, most)
    floors = torch.as_tensor(best.floors.copy(), device=ranks.device)
    set_floors(detector, floors)
    with without_masks(detector):
        for indices, found in results():
            for index, boxes in zip(indices, found, strict=True):
                best.add(index, [rows[:, 4] for rows in boxes])
            floors.copy_(torch.as_tensor(best.floors))
    cutoffs = best.cutoffs(ranks)
    floors.copy_(torch.as_tensor(cutoffs.scores))
    return cutoffs


@contextmanager
def without_masks(detector: torch.nn.Module) -> Iterator[None]:
    """Lets a two-stage detector find boxes alone."""
    head = detector.roi_head
    if not head.with_mask:
        yield
        return
    masks, head.mask_head = head.mask_head, None
    try:
        yield
    finally:
        head.mask_head = masks
