"""Inverse image frequency: logits are multiplied by how rare their class is."""

import math
from collections.abc import Callable
from pathlib import Path
from statistics import NormalDist

import torch
from torch import Tensor
from torch.nn import functional as F

from gol.activations import ACTIVATIONS
from gol.errors import UserError, pick
from gol.losses import base
from gol.losses.activated import ActivatedLoss, cross_entropy
from gol.losses.class_statistics import ClassStatistics

#: Weight of a class with n of N images, by the variant's name.
VARIANTS: dict[str, Callable[[int, int], float]] = {
    "raw": lambda n, total: math.log(total / n),
    "base2": lambda n, total: math.log2(total / n),
    "base10": lambda n, total: math.log10(total / n),
    "smooth": lambda n, total: math.log((total + 1) / (n + 1)) + 1,
    "prob": lambda n, total: math.log((total - n) / n),
    "normit": lambda n, total: -NormalDist().inv_cdf(n / total),
    "gombit": lambda n, total: -math.log(-math.log1p(-n / total)),
}


class IIF(ActivatedLoss):
    """Softmax cross entropy of ``w_c z_c``, in training and at test time; the background's w is 1.

    w grows with the rarity of a class, of which n of N training images have an instance:
    ``raw`` log(N / n), ``base2`` and ``base10`` the same in other bases,
    ``smooth`` log((N + 1) / (n + 1)) + 1, ``prob`` log((N - n) / n), ``normit`` the negative normal
    quantile of n / N, ``gombit`` -log(-log(1 - n / N)). With ``_obj`` after the name n and N are
    instances. A class without any counts as 1.

    Args:
        variant: the form of w.
        activation: only "softmax".
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C; 1203 and 1230 take the published counts of LVIS v1 and v0.5.
        mode: without effect.
        class_statistics: a class-statistics file that replaces the published counts.

    Raises:
        UserError: a class so frequent that its weight would not be above 0.

    Source: Alexandridis et al., "Inverse Image Frequency for Long-tailed Image Recognition", 2022.
    """

    only = "softmax"
    scores_by_counts = True
    reason = "its weights compare classes that compete"

    def __init__(
        self,
        variant: str = "raw",
        activation: str = "softmax",
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
    ) -> None:
        super().__init__(activation, reduction, loss_weight, num_classes, mode)
        statistics = base.load_statistics(None, class_statistics, num_classes)
        weight = torch.tensor(weights(variant, statistics))
        self.register_buffer("weight", F.pad(weight, (0, 1), value=1), persistent=False)

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Returns the scores (N, C + 1) of logits (N, C + 1), float32."""
        pred = base.full_precision(cls_score)
        return ACTIVATIONS["softmax"].probability(pred * self.weight.to(pred))

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the top-1 accuracy of the foreground RoIs in percent, 0 if there are none."""
        return super().get_accuracy(cls_score * self.weight.to(cls_score), labels)

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, C + 1)."""
        return cross_entropy(self.activation, pred * self.weight.to(pred), target)


def weights(variant: str, statistics: ClassStatistics) -> list[float]:
    """Returns w of each class; see :class:`IIF`."""
    pick("variant", variant, {f"{name}{end}": None for name in VARIANTS for end in ("", "_obj")})
    form, by_instances = variant.removesuffix("_obj"), variant.endswith("_obj")
    counts, total = statistics.image_counts, statistics.images
    if by_instances:
        counts, total = statistics.instance_counts, sum(statistics.instance_counts)
    found = []
    for name, count in zip(statistics.names, counts, strict=True):
        everywhere = count >= total and form != "smooth"  # most have no value there
        weight = 0.0 if everywhere else VARIANTS[form](max(count, 1), total)
        if weight <= 0:
            raise UserError(
                f"variant {variant!r} gives the class {name} ({count} of {total}) a weight that is "
                "not above 0; allowed: smooth, smooth_obj, or a training set in which it is rarer"
            )
        found.append(weight)
    return found
