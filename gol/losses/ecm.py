"""Effective class-margin loss: margins that bound each class's error in detection."""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gol.losses import base
from gol.losses.activated import ActivatedLoss

#: Background RoIs per image count of a class, as measured by the authors on LVIS v1.
BACKGROUND_RATIO = 6.3313


class ECM(ActivatedLoss):
    """Binary cross entropy of ``2 z_c + log(n_c / (S - n_c)) / 4``, weighted by class.

    n_c is the number of training images with the class (one without any counts as one image), that
    of the background 6.3313 times their sum, and S the sum of all C + 1. The weight
    ``a log((1 + a) / a)`` with ``a = (S - n_c) / n_c`` is almost 1 for every class and about 0.3
    for the background, a binary problem of its own (K = C + 1). Scores are those of the plain
    logits: a class scores ``p_c (1 - p_background)``. The original's code comes to this form.

    Args:
        activation: only "sigmoid".
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C; 1203 and 1230 take the published counts of LVIS v1 and v0.5.
        mode: without effect.
        class_statistics: a class-statistics file that replaces the published counts.

    Source: Cho and Krähenbühl, "Long-tail Detection with Effective Class-Margins", ECCV 2022.
    """

    only = "sigmoid"
    reason = "its margins are derived for the sigmoid"
    binary_background = True

    def __init__(
        self,
        activation: str = "sigmoid",
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
    ) -> None:
        super().__init__(activation, reduction, loss_weight, num_classes, mode)
        counts = base.load_statistics(None, class_statistics, num_classes).image_counts
        counts = [float(max(count, 1)) for count in counts]
        counts.append(BACKGROUND_RATIO * sum(counts))
        odds = [(sum(counts) - count) / count for count in counts]
        margin = torch.tensor([-math.log(a) / 4 for a in odds])
        weight = torch.tensor([a * math.log1p(1 / a) for a in odds])
        self.register_buffer("margin", margin, persistent=False)
        self.register_buffer("weight", weight, persistent=False)

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, C + 1)."""
        moved = 2 * pred + self.margin.to(pred)
        loss = F.binary_cross_entropy_with_logits(moved, target, reduction="none")
        return self.weight.to(pred) * loss
