"""Focal loss: what is classified well already counts less."""

import torch
from torch import Tensor

from gol.errors import UserError
from gol.losses import base
from gol.losses.activated import ActivatedLoss, cross_entropy


class Focal(ActivatedLoss):
    """Binary cross entropy over C classes, times ``alpha_t (1 - p_t) ** gamma``.

    ``p_t`` is the probability of what is true, ``alpha_t`` alpha for positives and 1 - alpha for
    negatives.

    Args:
        alpha: weight of the positives.
        gamma: how much less the well classified counts; 0 or at least 1.
        activation: "sigmoid", or another one of independent classes.
        reduction: "mean" (the sum over what ``average`` says), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C.
        mode: for gumbel; see :func:`gol.gumbel_cross_entropy`.
        average: "positives": the RoIs with an object, at least 1, as published; each micro-batch
            counts its own, so that its size matters. "all": N, or ``avg_factor``.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017.
    """

    competing = False
    reason = "it is a sum over binary problems"

    def __init__(
        self,
        alpha: float = 0.25,
        gamma: float = 2.0,
        activation: str = "sigmoid",
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
        average: str = "positives",
    ) -> None:
        super().__init__(activation, reduction, loss_weight, num_classes, mode)
        if not 0 <= alpha <= 1:
            raise UserError(f"alpha is {alpha!r}; allowed: from 0 to 1")
        self.alpha = alpha
        self.average = base.allowed("average", average, ("positives", "all"))
        # Between 0 and 1 the derivative has no bound where p_t is 1.
        self.gamma = gamma if gamma == 0 else base.at_least(1, "gamma", gamma)

    def divisor(
        self, target: Tensor, row_weight: Tensor, avg_factor: float | Tensor | None
    ) -> float | Tensor:
        """Returns the number of positives, 0-d, or for "all" what the other losses divide by."""
        if self.average == "all":
            return super().divisor(target, row_weight, avg_factor)
        return ((target.sum(dim=1) > 0) & (row_weight > 0)).sum().clamp(min=1)

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, C)."""
        loss = cross_entropy(self.activation, pred, target, self.mode)
        share = self.alpha * target + (1 - self.alpha) * (1 - target)
        return share * (-torch.expm1(-loss)) ** self.gamma * loss  # loss is -log(p_t)
