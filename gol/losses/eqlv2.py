"""Equalization loss v2: classes whose negatives outweigh their positives are pushed down less."""

import torch
from torch import Tensor

from gol.losses import base
from gol.losses.activated import ActivatedLoss, cross_entropy


class EQLv2(ActivatedLoss):
    """Binary cross entropy, each class weighted by the balance of the gradients that it has had.

    With ``q = G+ / G-``, the sums of what the positives and the negatives of a class have pulled,
    and ``r = 1 / (1 + exp(-gamma (q - mu)))``, negatives weigh ``r`` and positives
    ``1 + alpha (1 - r)``. A class that has had no gradient weighs 1, and so does the background, a
    binary problem of its own (K = C + 1). A class scores ``p_c (1 - p_background)``.

    ``pos_grad`` and ``neg_grad``, both (C,), are part of the checkpoint; the trainer adds up what
    all ranks and micro-batches of an iteration contribute. The original sums over processes after
    every micro-batch. An element adds at most 1, the sigmoid's bound: of Gumbel's gradient, which
    has none, one outlier would outweigh all that comes after.

    Args:
        gamma: slope of the weight's curve.
        mu: ratio at which the negatives weigh one half.
        alpha: what positives may gain.
        activation: "sigmoid", or another one of independent classes.
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C.
        mode: for gumbel; see :func:`gol.gumbel_cross_entropy`.

    Source: Tan et al., "Equalization Loss v2", CVPR 2021.
    """

    competing = False
    reason = "it balances binary problems, and a softmax is none"
    binary_background = True
    counts = ("pos_grad", "neg_grad")

    def __init__(
        self,
        gamma: float = 12.0,
        mu: float = 0.8,
        alpha: float = 4.0,
        activation: str = "sigmoid",
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
    ) -> None:
        super().__init__(activation, reduction, loss_weight, num_classes, mode)
        self.gamma = base.at_least(0, "gamma", gamma)
        self.mu = base.at_least(0, "mu", mu)
        self.alpha = base.at_least(0, "alpha", alpha)
        for name in self.counts:
            self.register_buffer(name, torch.zeros(num_classes, dtype=torch.float64))

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, C + 1), and takes note of its gradient."""
        negative = torch.cat([self._negative_weight(), self.pos_grad.new_ones(1)]).to(pred)
        weight = torch.where(target > 0, 1 + self.alpha * (1 - negative), negative)
        loss = cross_entropy(self.activation, pred, target, self.mode)
        if self.training and loss.requires_grad:
            # For the sigmoid |p - t|; for others whatever pulls at the logit.
            (slope,) = torch.autograd.grad(loss.sum(), pred, retain_graph=True)
            pull = (slope.abs().clamp(max=1) * weight * row_weight[:, None]).double()[:, :-1]
            self.pos_grad += (pull * target[:, :-1]).sum(dim=0)
            self.neg_grad += (pull * (1 - target[:, :-1])).sum(dim=0)
        return weight * loss

    def _negative_weight(self) -> Tensor:
        """``r`` of each class, (C,) float64."""
        balance = self.pos_grad / (self.neg_grad + 1e-10)
        weight = torch.sigmoid(self.gamma * (balance - self.mu))
        return weight.masked_fill(self.pos_grad + self.neg_grad == 0, 1)
