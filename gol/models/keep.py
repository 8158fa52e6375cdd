"""What is kept of an image, so that it can be scored again without the detector.

Suppression goes class by class and from the best score down, so what is best under other scores
may be a box that was not detected. Kept is the union of what is detected under several *views* of
the logits: as they are, and as the calibrations see them. Each view is exact: of all boxes only
those that survive suppress, so that what survives among the survivors of a view is what survives
among all. Between and beyond the views a detection may be missing.

Shapes: N: proposals of an image, C: classes, K: logits of a proposal, R: proposals that are kept,
P: candidates that are kept, pairs of proposal and class, D: detections.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gol.errors import UserError
from gol.models.nms import choose, survivors
from gol.models.postprocess import candidates
from gol.models.run_lengths import Rle

#: Logits (N, K) and a loss's own scores of them to other scores (N, C + 1), or None for no view.
View = Callable[[Tensor, Callable[[Tensor], Tensor]], Tensor | None]


@dataclass(frozen=True)
class Rules:
    """How detections are chosen: the keys of a resolved config's ``model.test_cfg.rcnn``."""

    score_thr: float
    iou_thr: float
    most: int

    @classmethod
    def of(cls, rcnn: Any) -> "Rules":
        """Those of ``model.test_cfg.rcnn``."""
        return cls(rcnn.score_thr, rcnn.nms.get("iou_threshold"), rcnn.max_per_img)


@dataclass
class Kept:
    """What is kept of an image; float32 and int64.

    Attributes:
        logits: (R, K).
        rows: (P,) the candidates' proposals, ascending.
        labels: (P,) their classes, ascending within a proposal.
        boxes: (P, 4) as the detector regressed them, in pixels of the image.
        largest: the largest coordinate of all of the image's candidates under their own scores;
            -inf for none.
        masks: P run lengths; None where the detector has no masks.
    """

    logits: Tensor
    rows: Tensor
    labels: Tensor
    boxes: Tensor
    largest: float
    masks: Sequence[Rle] | None = None

    @classmethod
    def nothing(cls, channels: int, masks: bool) -> "Kept":
        """Of an image without a proposal."""
        none = torch.empty(0, dtype=torch.long)
        empty = partial(torch.empty, 0)
        return cls(empty(channels), none, none, empty(4), 0.0, [] if masks else None)

    def detections(self, scores: Tensor, rules: Rules) -> Tensor:
        """(D,) the candidates that are detected under scores (R, C + 1), the best first."""
        values = scores[self.rows, self.labels]
        index = (values > rules.score_thr).nonzero()[:, 0]
        index = index[values[index].sort(descending=True, stable=True).indices]
        if not len(index):
            return index
        chosen = (self.boxes[index], self.labels[index], values[index])
        return index[self._survivors(*chosen, rules)]

    def result(self, scores: Tensor, chosen: Tensor) -> Any:
        """Detections as mmdet gives them: C arrays (n, 5), with masks a pair of these and C lists.

        Args:
            scores: (R, C + 1).
            chosen: (D,) result of :meth:`detections`.
        """
        labels = self.labels[chosen]
        values = scores[self.rows, self.labels][chosen, None]
        table = torch.cat([self.boxes[chosen], values], 1).numpy()
        places = [(labels == label).nonzero()[:, 0] for label in range(scores.shape[1] - 1)]
        boxes = [table[place.numpy()] for place in places]
        if self.masks is None:
            return boxes
        return boxes, [[self.masks[i] for i in chosen[place].tolist()] for place in places]

    def missing(self, scores: Tensor, chosen: Tensor, rules: Rules) -> int:
        """How many detections are missing since their pair of proposal and class was not kept.

        Of the proposals that were kept; a pair that was not has the box of the proposal's first
        candidate, which is exact where boxes are regressed for all classes at once.
        """
        least = rules.score_thr
        if len(chosen) == rules.most:
            least = float(scores[self.rows[chosen[-1]], self.labels[chosen[-1]]])
        better = scores[:, :-1] > least
        better[self.rows, self.labels] = False
        rows, labels = better.nonzero(as_tuple=True)
        if not len(rows):
            return 0
        first = torch.searchsorted(self.rows, rows)
        boxes = torch.cat([self.boxes[chosen], self.boxes[first]])
        labels = torch.cat([self.labels[chosen], labels])
        values = torch.cat([scores[self.rows, self.labels][chosen], scores[:, :-1][better]])
        index = values.sort(descending=True, stable=True).indices
        kept = index[self._survivors(boxes[index], labels[index], values[index], rules)]
        return int((kept >= len(chosen)).sum())

    def _survivors(self, boxes: Tensor, labels: Tensor, scores: Tensor, rules: Rules) -> Tensor:
        """Indices of what is detected of some boxes, the best first."""
        largest = max(self.largest, float(boxes.max()))  # not all are candidates as they are
        return survivors(boxes, labels, scores, largest, rules.iou_thr)[: rules.most]


def scorer(head: torch.nn.Module) -> Callable[[Tensor], Tensor]:
    """A box head's own scores (R, C + 1) of logits (R, K), both on the CPU."""

    def score(logits: Tensor) -> Tensor:
        with torch.inference_mode():
            return head.loss_cls.get_activation(logits.to(head.fc_cls.weight.device)).cpu()

    return score


@dataclass
class Keeper:
    """Makes a detector hand out what is to be kept of each image of a batch.

    Attributes:
        views: beside the scores as they are.
        found: index in the batch to what is kept, of images with a proposal.
        channels: K.
        score: the loss's own scores (R, C + 1) of logits (R, K), both on the CPU.
        count: proposals seen so far.
        sums: (2, K) sum of their logits and of the squares.
    """

    views: Sequence[View]
    found: dict[int, Kept] = field(default_factory=dict)
    channels: int = 0
    score: Callable[[Tensor], Tensor] = torch.Tensor.clone
    count: int = 0
    sums: Tensor = field(default_factory=lambda: torch.zeros(0))

    def install(self, detector: torch.nn.Module) -> None:
        """Before :func:`gol.models.lazy_masks`: masks are made of all candidates that are kept."""
        heads = detector.roi_head.bbox_head
        head = heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads
        head.get_bboxes = partial(self._get_bboxes, head)
        self.channels, self.score = head.fc_cls.out_features, scorer(head)
        self.sums = torch.zeros(2, self.channels, dtype=torch.float64)
        detector.register_forward_pre_hook(lambda *_: self.found.clear())

    def _get_bboxes(
        self, head: Any, rois: Tensor, cls_score: Tensor, *others: Any, **named: Any
    ) -> tuple[Tensor, Tensor]:
        """In the place of a box head's ``get_bboxes``: all candidates that are kept."""
        cfg = named["cfg"]
        usual = candidates(head, rois, cls_score, *others, **named)
        if usual is None:
            raise UserError(
                "logits are kept of detectors whose boxes are chosen as in mmdet's own configs: "
                "test_cfg.rcnn.nms of type nms, boxes in float32 within the image"
            )
        scores, boxes = usual
        rules = Rules.of(cfg)
        self.measure(cls_score)
        seen = [view(cls_score, head.loss_cls.get_activation) for view in self.views]
        plain, *shifted = (
            choose(each.float(), boxes, rules.score_thr, rules.iou_thr, rules.most)
            for each in (scores, *seen)
            if each is not None
        )
        width = scores.shape[1]
        cells = torch.cat([each.rows * width + each.labels for each in (plain, *shifted)]).unique()
        rows, labels = cells.div(width, rounding_mode="floor"), cells % width
        found, places = boxes.at(rows, labels), rows.unique(return_inverse=True)
        kept = Kept(
            cls_score[places[0]].float().cpu(),
            places[1].cpu(),
            labels.cpu(),
            found.cpu(),
            plain.largest,
        )
        self.found[int(rois[0, 0])] = kept
        return torch.cat([found, scores[rows, labels, None]], 1), labels

    def measure(self, logits: Tensor) -> None:
        """Adds the logits (N, K) of an image's proposals to the sums."""
        values = logits.double()
        self.count += len(values)
        self.sums += torch.stack([values.sum(0), values.square().sum(0)]).cpu()

    def take(self, results: Sequence[Any]) -> list[Kept]:
        """What is kept of each image of the batch that the detector has just seen.

        Args:
            results: the detector's, of all candidates that are kept.
        """
        images = []
        for index, result in enumerate(results):
            kept = self.found.get(index) or Kept.nothing(self.channels, isinstance(result, tuple))
            if isinstance(result, tuple):
                kept.masks = _in_order(result[1], kept.labels)
            images.append(kept)
        return images


def _in_order(masks: Sequence[Sequence[Rle]], labels: Tensor) -> list[Rle]:
    """P masks in the candidates' order, of C lists."""
    order, taken = np.asarray(labels), dict.fromkeys(labels.tolist(), 0)
    found = []
    for label in order.tolist():
        found.append(masks[label][taken[label]])
        taken[label] += 1
    return found
