"""What the losses share: labels, weights, reduction and the interface to mmdet's heads.

Shapes: N: RoIs, C: foreground classes, K: the classifier's output channels (C, or C + 1 with
the background last). Labels: 0 … C - 1 a class, C the background, negative: ignored.
"""

import math
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gol.errors import UserError, choices, plural
from gol.losses.class_statistics import ClassStatistics

MODES = ("paper", "exact", "clamped")
REDUCTIONS = ("none", "mean", "sum")


class ClassificationLoss(nn.Module):
    """Base of the losses: constructor arguments, prepared labels, accuracy.

    mmdet's heads ask a loss with the three ``custom_`` flags for its channels, activation and
    accuracy. A subclass defines ``background_channel``, ``get_activation`` and ``forward``.

    Attributes:
        counts: names of the buffers that ``forward`` adds to while training. They, and
            parameters that the loss learns, are all that a checkpoint holds of a loss; the trainer
            sums what the micro-batches of an iteration add, on all ranks.
        scores_by_counts: whether scores follow from the training set's class counts, too.
        background_channel: whether the background has a channel of its own, the last one.
        initial_bias: bias of a fresh classifier, where ``configs/axes.yaml`` gives none; None
            leaves it to mmdet.
    """

    custom_cls_channels = custom_activation = custom_accuracy = True
    counts: tuple[str, ...] = ()
    scores_by_counts: bool = False
    background_channel: bool
    initial_bias: float | None = None

    def __init__(
        self,
        use_sigmoid: bool,
        reduction: str,
        class_weight: object,
        loss_weight: float,
        num_classes: int,
        mode: str,
    ) -> None:
        super().__init__()
        self.use_sigmoid = use_sigmoid
        self.reduction = allowed("reduction", reduction, REDUCTIONS)
        self.class_weight = class_weight
        self.loss_weight = loss_weight
        self.num_classes = num_classes
        self.mode = allowed("mode", mode, MODES)

    def get_cls_channels(self, num_classes: int) -> int:
        """Returns K, the number of logits per RoI, for a head of ``num_classes`` classes.

        Raises:
            UserError: the head and the loss were built for different numbers of classes.
        """
        if num_classes != self.num_classes:
            raise UserError(
                f"{type(self).__name__}: num_classes is {self.num_classes}, "
                f"the head has {num_classes}"
            )
        return num_classes + int(self.background_channel)

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Returns the scores (N, C + 1) of logits (N, K): float32, or float64 for float64.

        Without a channel of its own the background gets a score of 0.
        """
        raise NotImplementedError(f"{type(self).__name__} has no get_activation")

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the top-1 accuracy of the foreground RoIs in percent, 0 if there are none.

        Args:
            cls_score: logits, (N, K).
            labels: (N,) int64.
        """
        foreground = (labels >= 0) & (labels < self.num_classes)
        return {"acc_classes": accuracy(cls_score, labels, foreground)}

    def _reduction(self, override: str | None) -> str:
        return self.reduction if override is None else allowed("reduction", override, REDUCTIONS)


def allowed(key: str, value: str, values: tuple[str, ...]) -> str:
    """Returns ``value`` if it is one of ``values``; raises UserError otherwise."""
    if value not in values:
        raise UserError(f"{key} is {value!r}; allowed: {choices(values)}")
    return value


def at_least(least: float, key: str, value: float) -> float:
    """Returns a finite ``value`` that is not below ``least``; raises UserError otherwise."""
    if not least <= value < math.inf:
        raise UserError(f"{key} is {value!r}; allowed: finite numbers from {least}")
    return value


def above(limit: float, key: str, value: float) -> float:
    """Returns a finite ``value`` above ``limit``; raises UserError otherwise."""
    if not limit < value < math.inf:
        raise UserError(f"{key} is {value!r}; allowed: finite numbers above {limit}")
    return value


def load_statistics(
    version: str | None, path: str | Path | None, num_classes: int
) -> ClassStatistics:
    """Returns the class statistics in ``path``, or else the published ones.

    Args:
        version: "v1" or "v0_5"; None takes the LVIS version that has ``num_classes`` classes.
        path: a class-statistics file that replaces ``version``.
        num_classes: C, which a file must match.

    Raises:
        UserError: unknown version, unreadable file, or another number of classes.
    """
    if path is not None:
        statistics = ClassStatistics.load(path)
        if len(statistics.ids) != num_classes:
            found = plural(len(statistics.ids), "class")
            raise UserError(f"{path} has {found}, num_classes={num_classes}")
        return statistics
    if version is None:
        version = {1203: "v1", 1230: "v0_5"}.get(num_classes)
    if version is None:
        raise UserError(
            f"num_classes={num_classes} needs class_statistics; shipped are those of LVIS v1 "
            "(1203 classes) and v0.5 (1230)"
        )
    return ClassStatistics.published(version)


def full_precision(cls_score: Tensor) -> Tensor:
    """Returns half-precision logits as float32; float32 and float64 stay as they are."""
    return cls_score.to(torch.promote_types(cls_score.dtype, torch.float32))


def prepare_labels(
    cls_score: Tensor, labels: Tensor, weight: Tensor | None, ignore_index: int
) -> tuple[Tensor, Tensor]:
    """Returns one-hot targets (N, K) and RoI weights (N,), both in the logits' dtype.

    Label K (the background, where it has no channel) and ignored labels give a row of zeros;
    the weight of an ignored label is 0. Nothing here waits for the GPU.

    Raises:
        RuntimeError: a label above K.
    """
    valid = (labels >= 0) & (labels != ignore_index)
    hot = valid & (labels != cls_score.shape[1])
    target = torch.zeros_like(cls_score)
    target.scatter_(1, labels.masked_fill(~hot, 0)[:, None], hot[:, None].to(target))
    row_weight = valid.to(target)
    return target, row_weight if weight is None else row_weight * weight.to(target)


def binary_cross_entropy(probability: Tensor, target: Tensor) -> Tensor:
    """``F.binary_cross_entropy`` per element, also inside autocast, which would refuse it."""
    with torch.autocast(probability.device.type, enabled=False):
        return F.binary_cross_entropy(probability, target, reduction="none")


def reduce_rows(
    loss: Tensor, row_weight: Tensor, reduction: str, avg_factor: float | Tensor | None = None
) -> Tensor:
    """Weights the rows of ``loss`` (N, K) by ``row_weight`` (N,) and reduces as mmdet 2.28 does.

    "mean" divides the sum by N * K, or by ``avg_factor`` if that is given; 0 for no rows.

    Raises:
        ValueError: ``avg_factor`` with "sum".
    """
    if reduction == "none":
        return loss * row_weight[:, None]
    total = (loss.sum(dim=1) * row_weight).sum()
    if avg_factor is not None:
        if reduction == "sum":
            raise ValueError("avg_factor needs reduction 'mean'; reduction is 'sum'")
        return total / (avg_factor + torch.finfo(torch.float32).eps)
    return total / max(loss.numel(), 1) if reduction == "mean" else total


def accuracy(cls_score: Tensor, labels: Tensor, rows: Tensor) -> Tensor:
    """Returns the percentage, 0-d, of the RoIs in the mask ``rows`` whose top logit is right."""
    if cls_score.shape[0] == 0:
        return cls_score.new_zeros(())
    right = (cls_score.argmax(dim=1) == labels) & rows
    return 100.0 * right.sum() / rows.sum().clamp(min=1)
