"""Balanced softmax: the training set's class frequencies are added to the logits while training."""

import math
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gol.losses import base
from gol.losses.activated import ActivatedLoss, cross_entropy


class Balanced(ActivatedLoss):
    """Cross entropy of logits moved by ``tau log(pi_c)``; scores are those of the plain logits.

    ``pi_c`` is the class's share of the training set's instances; a class without any counts as
    one instance. In the softmax the background is not moved. Independent classes have nothing to
    be compared with, so that a common shift would move every score: they get ``tau log(C pi_c)``,
    which is 0 for a class of average frequency. The shares are those of the annotations; with
    repeat factor sampling, which shows rare classes more often, the loss over-corrects somewhat.

    With gumbel take ``mode="exact"`` and gradient clipping: rare classes are moved to where the
    paper's clamp gives no gradient.

    Args:
        tau: factor on the shift.
        activation: "softmax", or that of independent classes.
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C; 1203 and 1230 take the published counts of LVIS v1 and v0.5.
        mode: for gumbel; see :func:`gol.gumbel_cross_entropy`.
        class_statistics: a class-statistics file that replaces the published counts.

    Source: Ren et al., "Balanced Meta-Softmax for Long-Tailed Visual Recognition", NeurIPS 2020;
    Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
    """

    def __init__(
        self,
        tau: float = 1.0,
        activation: str = "softmax",
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
    ) -> None:
        super().__init__(activation, reduction, loss_weight, num_classes, mode)
        self.tau = base.at_least(0, "tau", tau)
        counts = base.load_statistics(None, class_statistics, num_classes).instance_counts
        counts = [max(count, 1) for count in counts]
        average = sum(counts) / (1 if self.background_channel else num_classes)
        shift = torch.tensor([tau * math.log(count / average) for count in counts])
        self.register_buffer("shift", F.pad(shift, (0, int(self.background_channel))), False)

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, K)."""
        return cross_entropy(self.activation, pred + self.shift.to(pred), target, self.mode)
