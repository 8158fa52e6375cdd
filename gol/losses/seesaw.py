"""Seesaw loss: classes that are rarer than the labelled one are pushed down less."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gol.activations import ACTIVATIONS
from gol.losses import base
from gol.losses.activated import ActivatedLoss


class Seesaw(ActivatedLoss):
    """Softmax over the C classes with re-balanced negatives, and a softmax of object or background.

    On a RoI of class i the logit of class j moves by ``log(M_ij K_ij)``. Mitigation
    ``M_ij = min(1, n_j / n_i)^p`` spares classes of which fewer RoIs were seen; compensation
    ``K_ij = max(1, p_j / max(p_i, eps))^q`` gives back where j is scored above i. The K = C + 2
    logits are those of the classes, then "object" and "background"; a class scores its softmax
    times that of "object".

    ``cum_samples`` (C + 1,) counts the RoIs by label, the micro-batch of the moment included, and
    is part of the checkpoint. mmdet counts in each process alone, and after every micro-batch;
    here the trainer adds up the counts of all ranks once per iteration.

    Args:
        p: exponent of the mitigation.
        q: exponent of the compensation.
        eps: least score that compensation divides by.
        activation: only "softmax".
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C.
        mode: without effect.

    Source: Wang et al., "Seesaw Loss for Long-Tailed Instance Segmentation", CVPR 2021.
    """

    only = "softmax"
    reason = "its factors move the odds of classes that compete"
    counts = ("cum_samples",)

    def __init__(
        self,
        p: float = 0.8,
        q: float = 2.0,
        eps: float = 0.01,
        activation: str = "softmax",
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
    ) -> None:
        super().__init__(activation, reduction, loss_weight, num_classes, mode)
        self.p = base.at_least(0, "p", p)
        self.q = base.at_least(0, "q", q)
        self.eps = base.above(0, "eps", eps)
        self.register_buffer("cum_samples", torch.zeros(num_classes + 1, dtype=torch.float64))

    def get_cls_channels(self, num_classes: int) -> int:
        """Returns K = C + 2; raises UserError where head and loss do not agree."""
        return super().get_cls_channels(num_classes) + 1

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Returns the scores (N, C + 1) of logits (N, C + 2), float32."""
        softmax = ACTIVATIONS["softmax"].probability
        classes, objectness = softmax(cls_score[:, :-2]), softmax(cls_score[:, -2:])
        return torch.cat([classes * objectness[:, :1], objectness[:, 1:]], dim=1)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the top-1 accuracy of the foreground RoIs among the C classes, in percent."""
        return super().get_accuracy(cls_score[:, :-2], labels)

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, C + 2): classes, object, background."""
        if self.training:
            self.cum_samples += (target * (row_weight > 0)[:, None]).sum(dim=0)
        hot, background = target[:, :-1], target[:, -1:]
        pulled = pred[:, :-2] + self._log_factors(pred[:, :-2].detach(), hot)
        classes = -hot * pulled.log_softmax(dim=1)
        sides = torch.cat([hot.sum(dim=1, keepdim=True), background], dim=1)
        return torch.cat([classes, -sides * pred[:, -2:].log_softmax(dim=1)], dim=1)

    def _log_factors(self, logits: Tensor, hot: Tensor) -> Tensor:
        """``log(M_ij K_ij)`` of each RoI's label i and every class j, (N, C); 0 for j = i."""
        seen = self.cum_samples[:-1].clamp(min=1).log().to(logits)
        mitigation = (seen - (hot * seen).sum(dim=1, keepdim=True)).clamp(max=0)
        score = logits.log_softmax(dim=1)
        own = (score * hot).sum(dim=1, keepdim=True)
        floor = torch.full_like(own, self.eps).log()
        return self.p * mitigation + self.q * F.relu(score - own.maximum(floor))
