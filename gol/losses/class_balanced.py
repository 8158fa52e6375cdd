"""Class-balanced loss: a RoI weighs the more, the fewer effective samples its class has."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from gol.errors import UserError
from gol.losses import base
from gol.losses.activated import ActivatedLoss, cross_entropy


class ClassBalanced(ActivatedLoss):
    """Cross entropy with the RoIs weighted by ``(1 - beta) / (1 - beta ** n_c)`` of their label.

    n_c is the number of training images with the class; one without any counts as one image. The
    background, which the paper's tasks do not have, weighs 1.

    Args:
        beta: 0: all weigh the same; towards 1: inverse to n_c.
        activation: "softmax", or that of independent classes.
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C; 1203 and 1230 take the published counts of LVIS v1 and v0.5.
        mode: for gumbel; see :func:`gol.gumbel_cross_entropy`.
        class_statistics: a class-statistics file that replaces the published counts.
        mean_over: "samples": the weights of all n_c together have mean 1, so that objects keep
            about their share beside the background; "classes": those of the C classes, as
            published.

    Source: Cui et al., "Class-Balanced Loss Based on Effective Number of Samples", CVPR 2019.
    """

    def __init__(
        self,
        beta: float = 0.999,
        activation: str = "softmax",
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
        mean_over: str = "samples",
    ) -> None:
        super().__init__(activation, reduction, loss_weight, num_classes, mode)
        if not 0 <= beta < 1:
            raise UserError(f"beta is {beta!r}; allowed: from 0 to below 1")
        base.allowed("mean_over", mean_over, ("samples", "classes"))
        counts = base.load_statistics(None, class_statistics, num_classes).image_counts
        samples = torch.tensor(counts, dtype=torch.float64).clamp(min=1)
        weight = (1 - beta) / (1 - beta**samples)
        share = samples if mean_over == "samples" else torch.ones_like(samples)
        weight *= share.sum() / (share * weight).sum()
        self.register_buffer("weight", weight.float(), persistent=False)

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, K)."""
        weight = F.pad(self.weight.to(pred), (0, target.shape[1] - self.num_classes), value=1)
        by_label = 1 + (target * (weight - 1)).sum(dim=1, keepdim=True)  # 1 for the background
        return by_label * cross_entropy(self.activation, pred, target, self.mode)
