"""Non-maximum suppression over many classes: what mmdet finds, from the best candidates alone.

With 1,203 classes 1,000 proposals make over a million candidates, of which 300 are wanted. mmdet
decodes a box for each of them and suppresses class by class. Here the best K are decoded and
suppressed; if too few survive, the next best follow.

That is exact: greedy suppression goes from the best candidate to the worst, and whether one stays
depends on those before it alone. What survives of the best K therefore is the beginning of what
survives of all. Of those before, only the survivors suppress, so that they stand for all of them.

Equal scores are in the order of the proposals, and within a proposal of the classes. mmdet has the
same order below ``split_thr`` (10,000) candidates; from there on its sort leaves equal scores in an
order that depends on the processor.

Shapes: N: proposals of an image, C: classes, G: boxes of a proposal (C, or 1 for class-agnostic
regression), W: C rounded up to whole blocks, K: candidates, D: detections.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.ops.nms import NMSop
from torch import Tensor

from gol.errors import UserError

_FIRST = 4  # times the wanted detections: the candidates that are tried first
_PART = 8192  # most candidates suppressed at once, as the cost grows with their pairs
_BLOCK = 64  # scores of which the largest alone is looked at first
_SMALL = 1 << 16  # scores; a table of fewer is looked at in steps that wait for each other
_DECODED = 4096  # boxes decoded first where the largest coordinate is sought
_LARGEST_PART = 16  # times that: most boxes decoded at once


@dataclass(frozen=True)
class Boxes:
    """The boxes of an image, decoded when they are asked for.

    Attributes:
        rois: (N, 4) float32, the proposals as x1, y1, x2, y2.
        deltas: (N, G, 4) float32, what the detector regressed.
        decode: turns proposals (K, 4) and deltas (K, 4g) into boxes (K, 4g).
        scale: (4,) float32, what the boxes are divided by.
        highest: an upper bound of all coordinates; none is below 0.
    """

    rois: Tensor
    deltas: Tensor
    decode: Callable[[Tensor, Tensor], Tensor]
    scale: Tensor
    highest: float

    def at(self, rows: Tensor, labels: Tensor) -> Tensor:
        """(K, 4) boxes of K pairs of proposal and class."""
        deltas = self.deltas[rows, labels] if self.deltas.shape[1] > 1 else self.deltas[rows, 0]
        return self.decode(self.rois[rows], deltas) / self.scale

    def of(self, rows: Tensor) -> Tensor:
        """(K, G, 4) all boxes of K proposals."""
        boxes = self.decode(self.rois[rows], self.deltas[rows].flatten(1))
        return boxes.view(len(rows), -1, 4) / self.scale


@dataclass(frozen=True)
class Chosen:
    """The best detections of an image, the best first.

    Attributes:
        rows: (D,) their proposals.
        labels: (D,) their classes.
        boxes: (D, 4).
        scores: (D,).
        largest: the largest coordinate of all candidates, by which classes are kept apart.
    """

    rows: Tensor
    labels: Tensor
    boxes: Tensor
    scores: Tensor
    largest: float


def best_detections(
    scores: Tensor, boxes: Boxes, score_thr: float, iou_thr: float, most: int
) -> tuple[Tensor, Tensor]:
    """The best boxes whose IoU with every better one of their class is small enough.

    Args:
        scores: (N, C + 1) float32, the background last.
        boxes: of the N proposals, N > 0.
        score_thr: what a candidate's score must be above.
        iou_thr: the largest IoU that is small enough.
        most: D is at most this.

    Returns:
        (D, 5) x1, y1, x2, y2 and score, the best first, and (D,) labels from 0.

    Raises:
        UserError: a score, proposal or box regression is not a finite number.
    """
    found = choose(scores, boxes, score_thr, iou_thr, most)
    return torch.cat([found.boxes, found.scores[:, None]], 1), found.labels


def choose(scores: Tensor, boxes: Boxes, score_thr: float, iou_thr: float, most: int) -> Chosen:
    """As :func:`best_detections`, with what they were chosen from."""
    candidates = _Candidates(scores, boxes, score_thr)
    kept = rows = labels = torch.empty(0, dtype=torch.long, device=scores.device)
    found, values = scores.new_empty(0, 4), scores.new_empty(0)
    largest = -math.inf
    for part in candidates.best_first(_FIRST * most):
        pool = torch.cat([kept, part]) if len(kept) else part
        rows, labels, values = candidates.at(pool)
        found = boxes.at(rows, labels)
        if largest == -math.inf:
            largest = candidates.largest(found if len(pool) == candidates.count else None)
        keep = survivors(found, labels, values, largest, iou_thr)[:most]
        kept, rows, labels = pool[keep], rows[keep], labels[keep]
        found, values = found[keep], values[keep]
        if len(kept) == most:
            break
    return Chosen(rows, labels, found, values, largest)


def survivors(
    boxes: Tensor, labels: Tensor, scores: Tensor, largest: float, iou_thr: float
) -> Tensor:
    """Indices of the boxes that greedy suppression leaves of each class, the best first.

    Args:
        boxes: (K, 4) float32.
        labels: (K,).
        scores: (K,).
        largest: no coordinate is larger.
        iou_thr: the largest IoU that is small enough.
    """
    # In float32 as mmdet's, whose IoU is that of the coordinates as they are rounded here.
    offset = float(np.float32(largest) + np.float32(1))
    apart = boxes + (labels.to(boxes) * offset)[:, None]
    return _suppressed(apart, scores, iou_thr)


def detections_above(
    scores: Tensor, boxes: Boxes, floors: Tensor, iou_thr: float
) -> tuple[Tensor, Tensor]:
    """The same without a limit, from a score of each class on.

    What is below a floor suppresses nothing above it, so a detection is there or not whatever the
    floors of others. Classes are kept apart by the image's size, which mmdet's largest box nearly
    always reaches.

    Args:
        scores: (N, C + 1) float32, the background last.
        boxes: of the N proposals, N > 0.
        floors: (C,) float32, the least score of a candidate of each class.
        iou_thr: the largest IoU that is small enough.

    Returns:
        (D, 5) and (D,) as there, by class, within it the best first.

    Raises:
        UserError: a score, proposal or box regression is not a finite number.
    """
    for name, values in _inputs(scores, boxes).items():
        _refuse_infinite(values, name)
    labels, rows = (scores[:, :-1] >= floors).T.nonzero(as_tuple=True)
    values = scores[rows, labels]
    found = boxes.at(rows, labels) if len(rows) else scores.new_empty(0, 4)
    apart = found + (labels.to(found) * float(np.float32(boxes.highest) + np.float32(1)))[:, None]
    kept = [labels.new_empty(0)]
    for start, end in _class_parts(labels):
        part = start + _by_score(values[start:end])
        chosen = part[_suppressed(apart[part], values[part], iou_thr)]
        kept.append(chosen[labels[chosen].sort(stable=True).indices])
    keep = torch.cat(kept)
    return torch.cat([found[keep], values[keep, None]], 1), labels[keep]


def _class_parts(labels: Tensor) -> Iterator[tuple[int, int]]:
    """Begins and ends of whole classes, of at most _PART candidates if it is several."""
    start = end = 0
    for count in labels.unique_consecutive(return_counts=True)[1].tolist():
        if end > start and end + count - start > _PART:
            yield start, end
            start = end
        end += count
    if end > start:
        yield start, end


def _inputs(scores: Tensor, boxes: Boxes) -> dict[str, Tensor]:
    return {"scores": scores, "proposals": boxes.rois, "box regressions": boxes.deltas}


class _Candidates:
    """The pairs of proposal and class whose score is above the threshold, named by their cell.

    Args:
        scores, boxes, score_thr: as of :func:`best_detections`.

    Attributes:
        count: how many there are.
    """

    def __init__(self, scores: Tensor, boxes: Boxes, score_thr: float) -> None:
        self._boxes = boxes
        self._least = float(np.nextafter(np.float32(score_thr), np.float32(np.inf)))
        # (N, W): what is added is no candidate, and the cells' order is that of the scores.
        extra = (1 - scores.shape[1]) % _BLOCK
        self._table = F.pad(scores[:, :-1], (0, extra), value=-math.inf)
        self._parts = self._farthest_first()
        inputs = _inputs(scores, boxes)
        facts = [
            (self._table >= self._least).count_nonzero(),  # a sum would widen it first
            sum(values.sum() for values in inputs.values()),
            *([self._largest_of(next(self._parts))] if self._table.numel() > _SMALL else []),
        ]
        # All at once, so that a GPU is waited for once.
        count, total, *seen = torch.stack([fact.double() for fact in facts]).tolist()
        self.count, self._largest = int(count), max(seen, default=-math.inf)
        if not math.isfinite(total):
            for name, values in inputs.items():
                _refuse_infinite(values, name)

    def at(self, cells: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(K,) proposals, classes and scores of K cells."""
        width = self._table.shape[1]
        rows = cells.div(width, rounding_mode="floor")
        return rows, cells.remainder(width), self._table.view(-1)[cells]

    def best_first(self, size: int) -> Iterator[Tensor]:
        """Cells of all candidates in parts, the first of ``size``, then more and more."""
        done = 0
        while done < self.count:
            best = self._best(min(size, self.count))
            yield from best[done:].split(_PART)
            done, size = len(best), 2 * size

    def _best(self, size: int) -> Tensor:
        """(size,) cells of the best candidates, the best first."""
        flat = self._table.view(-1)
        if flat.is_cuda:  # quick there, and nothing has to wait
            return self._sorted[:size]
        blocks = flat.view(-1, _BLOCK)
        if size < len(blocks):
            maxima = blocks.amax(1)
            # `size` blocks have a score of at least this, and therefore so have the best `size`.
            least = max(self._least, float(maxima.topk(size, sorted=False).values.min()))
            chosen = (maxima >= least).nonzero()[:, 0]
            row, column = (blocks[chosen] >= least).nonzero(as_tuple=True)
            cells = chosen[row] * _BLOCK + column
        else:
            cells = (flat >= self._least).nonzero()[:, 0]
        return cells[_by_score(flat[cells])[:size]]

    @cached_property
    def _sorted(self) -> Tensor:
        """All cells, the best first."""
        return _by_score(self._table.view(-1))

    def largest(self, found: Tensor | None) -> float:
        """The largest coordinate of all candidates' boxes; ``found`` are these, if known."""
        if found is not None:
            return float(found.max())
        for rows in self._parts:
            if self._largest >= self._boxes.highest:
                break
            self._largest = max(self._largest, float(self._largest_of(rows)))
        return self._largest

    def _farthest_first(self) -> Iterator[Tensor]:
        """The proposals in parts; the first reach farthest, so that they most likely end it."""
        order = (self._boxes.rois / self._boxes.scale).amax(1).argsort(descending=True)
        size = max(_DECODED // self._boxes.deltas.shape[1], 1)
        most = len(order) if order.is_cuda else _LARGEST_PART * size  # a GPU waits for each part
        start = 0
        while start < len(order):
            yield order[start : start + size]
            start, size = start + size, min(2 * size, most)

    def _largest_of(self, rows: Tensor) -> Tensor:
        """() the largest coordinate of the candidates among some proposals."""
        boxes, chosen = self._boxes.of(rows), self._table[rows] >= self._least
        count = boxes.shape[1]
        chosen = chosen[:, :count] if count > 1 else chosen.any(1, keepdim=True)
        return boxes.amax(2).masked_fill(~chosen, -math.inf).max()


def _suppressed(boxes: Tensor, scores: Tensor, iou_thr: float) -> Tensor:
    """Indices of what suppression leaves; mmcv's operator, whose function costs as much again."""
    return NMSop.apply(boxes, scores, iou_thr, 0, 0.0, -1)


def _by_score(scores: Tensor) -> Tensor:
    """Indices of the scores, the best first and equal ones as they come."""
    return scores.sort(descending=True, stable=True).indices


def _refuse_infinite(values: Tensor, name: str) -> None:
    count = int((~values.isfinite()).sum())
    if count:  # otherwise their sum alone is too large
        raise UserError(
            f"{count:,} of {values.numel():,} {name} of an image are not finite numbers: the "
            "weights of the detector are damaged, or its training diverged"
        )
