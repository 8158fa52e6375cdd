"""Federated loss: a batch trains the classes that it shows, and a few drawn ones."""

from pathlib import Path

import torch
from torch import Tensor

from gol.errors import UserError
from gol.losses import base
from gol.losses.activated import ActivatedLoss, cross_entropy


class Federated(ActivatedLoss):
    """Binary cross entropy over the classes of the batch and others drawn for it.

    The labels of the batch, the background counted as one, are filled up to ``sampled_classes`` by
    classes drawn without replacement with probability ~ ``n_c ** power``, n_c the number of
    training images with the class; one without images is never drawn. The loss is the sum over
    these classes. The draw is from torch's generator, which the trainer seeds for each
    micro-batch. The background has no channel: the original's is trained by nothing. With fewer
    classes than ``sampled_classes`` it is plain binary cross entropy.

    Args:
        sampled_classes: size of the set, unless the batch shows more.
        power: 0.5: frequent classes are drawn more often; 0: all alike.
        activation: "sigmoid", or another one of independent classes.
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C; 1203 and 1230 take the published counts of LVIS v1 and v0.5.
        mode: for gumbel; see :func:`gol.gumbel_cross_entropy`.
        class_statistics: a class-statistics file that replaces the published counts.

    Source: Zhou et al., "Probabilistic two-stage detection" (CenterNet2), 2021; detectron2.
    """

    competing = False
    reason = "every label of the batch is in the set, so a softmax would leave nothing out"

    def __init__(
        self,
        sampled_classes: int = 50,
        power: float = 0.5,
        activation: str = "sigmoid",
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
    ) -> None:
        super().__init__(activation, reduction, loss_weight, num_classes, mode)
        if not (sampled_classes >= 1 and float(sampled_classes).is_integer()):
            raise UserError(
                f"sampled_classes is {sampled_classes!r}; allowed: whole numbers from 1"
            )
        self.sampled_classes = int(sampled_classes)
        base.at_least(0, "power", power)
        counts = base.load_statistics(None, class_statistics, num_classes).image_counts
        scores = power * torch.tensor(counts).log()
        self.register_buffer("log_odds", scores.masked_fill(scores.isnan(), -torch.inf), False)

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, C): 0 for the classes that are left out."""
        loss = cross_entropy(self.activation, pred, target, self.mode)
        return loss.masked_fill(~self.kept(target, row_weight), 0)

    def kept(self, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the mask (C,) of the classes that the batch trains.

        Args:
            target: one-hot, (N, C).
            row_weight: (N,), 0 for what is ignored.
        """
        real = row_weight > 0
        present = (target * real[:, None]).any(dim=0)
        background = ((target.sum(dim=1) == 0) & real).any()
        # The largest sums of log-odds and Gumbel noise are a draw without replacement.
        noise = torch.empty_like(self.log_odds).exponential_().log().neg_()
        order = (self.log_odds + noise).masked_fill(present, torch.inf).argsort(descending=True)
        drawn = order.argsort() < self.sampled_classes - background.long()
        return present | (drawn & (self.log_odds > -torch.inf))
