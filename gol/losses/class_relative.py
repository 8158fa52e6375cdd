"""Class-relative activations: the normal CDF for frequent classes, Gumbel for all others."""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gol.activations import ACTIVATIONS
from gol.losses import base
from gol.losses.class_statistics import ClassStatistics
from gol.losses.gumbel import gumbel_bce


def normal_bce(pred: Tensor, target: Tensor) -> Tensor:
    """Per-element cross entropy of the normal CDF of logits clamped to [-5, 5], as published."""
    probability = torch.erf(pred.clamp(-5, 5) / math.sqrt(2)) / 2 + 0.5
    return base.binary_cross_entropy(probability, target)


def class_relative_bce(pred: Tensor, target: Tensor, frequent: Tensor, mode: str) -> Tensor:
    """Per-element cross entropy (N, K); the mask ``frequent`` (K,) says where to take the normal.

    ``mode`` concerns the Gumbel channels.
    """
    return torch.where(frequent, normal_bce(pred, target), gumbel_bce(pred, target, mode))


def class_relative_probability(cls_score: Tensor, frequent: Tensor) -> Tensor:
    """Probabilities (N, K) of unclamped logits, float32."""
    normal, gumbel = ACTIVATIONS["normal"], ACTIVATIONS["gumbel"]
    return torch.where(frequent, normal.probability(cls_score), gumbel.probability(cls_score))


def frequent_mask(statistics: ClassStatistics, background: bool = False) -> Tensor:
    """Mask (C,), or (C + 1,) with the background, of the classes in more than 100 images."""
    counts = [*statistics.image_counts, *([0] if background else [])]
    return torch.tensor(counts) > 100


class ClassRelativeActivations(base.ClassificationLoss):
    """Cross entropy on class-relative activations over C classes and a background channel.

    Classes of more than 100 training images use the normal CDF, the others and the background
    the Gumbel activation.

    Args:
        use_sigmoid: without effect, as in the original.
        reduction: "mean", "sum" or "none".
        class_weight: without effect, as in the original.
        loss_weight: factor on the reduced loss.
        num_classes: C; 1203 and 1230 take the published counts of LVIS v1 and v0.5.
        lvis_file: without effect; the original read the image counts from this path, here they
            come from the class statistics.
        mode: "paper" clamps the loss to [0, 25] after reduction; see
            :func:`gol.gumbel_cross_entropy`. The normal channels always follow the paper.
        class_statistics: a class-statistics file that replaces the published counts.
        **kwargs: without effect, as in the original.

    Raises:
        UserError: unknown reduction or mode, or no statistics for ``num_classes``.
    """

    background_channel = True
    scores_by_counts = True

    def __init__(
        self,
        use_sigmoid: bool = True,
        reduction: str = "mean",
        class_weight: Any = None,
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        lvis_file: str | None = None,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(use_sigmoid, reduction, class_weight, loss_weight, num_classes, mode)
        statistics = base.load_statistics(None, class_statistics, num_classes)
        frequent = frequent_mask(statistics, background=True)
        self.register_buffer("frequent", frequent, persistent=False)

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Returns the probabilities (N, C + 1) of logits (N, C + 1), float32."""
        return class_relative_probability(cls_score, self.frequent)

    def get_accuracy(self, cls_score: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Returns the top-1 accuracy in percent over all RoIs, the background's included."""
        return {"acc_classes": base.accuracy(cls_score, labels, labels >= 0)}

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = -100,
    ) -> Tensor:
        """Returns the loss; arguments and shapes are those of ``GumbelCE.forward``."""
        pred = base.full_precision(cls_score)
        target, row_weight = base.prepare_labels(pred, label, weight, ignore_index)
        loss = class_relative_bce(pred, target, self.frequent, self.mode)
        loss = base.reduce_rows(loss, row_weight, self._reduction(reduction_override), avg_factor)
        return self.loss_weight * (loss.clamp(0, 25) if self.mode == "paper" else loss)
