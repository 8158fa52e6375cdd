"""Binary cross entropy on the Gumbel activation: the paper's loss, and its closed form."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gol.activations import ACTIVATIONS
from gol.losses import base


def gumbel_cross_entropy(
    pred: Tensor, label: Tensor, reduction: str = "mean", mode: str = "paper"
) -> Tensor:
    """Cross entropy of ``p = exp(-exp(-pred))``: ``exp(-x)`` or ``-log(1 - exp(-exp(-x)))``.

    ``mode="paper"`` is the published code as torch executes it. Logits are clamped to [-4, 10]
    and the reduced loss (each element, for "none") to [0, 20]; nothing outside gets a gradient.
    Inside, the backward pass of ``F.binary_cross_entropy`` divides by ``max(p(1 - p), 1e-12)``,
    and a positive's ``p`` is below 1e-12 from ``x = -3.32`` down: a *dead zone*. Of the true
    derivative ``-exp(-x)`` there remain, per element in float32, 73 % at -3.33, 0.3 % at -3.51
    (-0.099 instead of -33.4), 4e-8 at -3.8 and nothing from -4 down. A positive that starts
    there hardly learns.

    ``mode="exact"`` is the closed form: no clamps, and the true gradient everywhere, so a
    positive at -8 pulls with ``exp(8)``; train it with gradient clipping.

    ``mode="clamped"`` is that of logits clamped to [-10, 10], outside of which nothing gets a
    gradient: the form of the authors' later code (AGLU).

    Args:
        pred: logits, any shape; half precision is computed in float32.
        label: targets in [0, 1] of the same shape, usually one-hot.
        reduction: "mean" (0 for no elements), "sum" or "none".
        mode: "paper", "exact" or "clamped".

    Returns:
        The loss, float32 (float64 for float64 logits): 0-d, or of pred's shape for "none".

    Raises:
        UserError: unknown reduction or mode.
        ValueError: ``label`` has another shape.

    Source: Alexandridis et al., "Gumbel Optimised Loss for Long-tailed Instance Segmentation",
    ECCV 2022, and the formula in the README of its code.
    """
    base.allowed("reduction", reduction, base.REDUCTIONS)
    if pred.shape != label.shape:
        raise ValueError(f"label is {tuple(label.shape)}; allowed: pred's {tuple(pred.shape)}")
    pred = base.full_precision(pred)
    loss = gumbel_bce(pred, label.to(pred.dtype), base.allowed("mode", mode, base.MODES))
    if reduction != "none":
        loss = loss.sum() / (max(loss.numel(), 1) if reduction == "mean" else 1)
    return loss.clamp(0, 20) if mode == "paper" else loss


def gumbel_bce(pred: Tensor, target: Tensor, mode: str) -> Tensor:
    """Per-element loss of float32 or float64 logits; see :func:`gumbel_cross_entropy`."""
    if mode != "paper":
        gumbel = ACTIVATIONS["gumbel"]
        pred = pred.clamp(-10, 10) if mode == "clamped" else pred
        return -torch.lerp(gumbel.log_complement(pred), gumbel.log_probability(pred), target)
    # The published operations one by one, because their rounding decides the gradient: in place
    # where backward does not need the operand.
    probability = pred.clamp(-4, 10).neg_().exp_().exp().reciprocal()
    return base.binary_cross_entropy(probability, target)


class GumbelCE(base.ClassificationLoss):
    """Gumbel cross entropy over C classes and a background channel, as mmdet's ``loss_cls``.

    Args:
        use_sigmoid: without effect, as in the original; mmdet's heads pass it.
        reduction: "mean", "sum" or "none".
        class_weight: without effect, as in the original.
        loss_weight: factor on the reduced loss.
        num_classes: C.
        mode: of :func:`gumbel_cross_entropy`; "paper" clamps the loss to
            [0, 20] after reduction and before ``loss_weight``.
        class_statistics: a class-statistics file whose number of classes is checked; the loss
            itself needs no frequencies.

    Raises:
        UserError: unknown reduction or mode, or a file of another number of classes.
    """

    background_channel = True

    def __init__(
        self,
        use_sigmoid: bool = True,
        reduction: str = "mean",
        class_weight: Any = None,
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
    ) -> None:
        super().__init__(use_sigmoid, reduction, class_weight, loss_weight, num_classes, mode)
        if class_statistics is not None:
            base.load_statistics(None, class_statistics, num_classes)

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Returns the Gumbel probabilities (N, C + 1) of logits (N, C + 1), float32."""
        return ACTIVATIONS["gumbel"].probability(cls_score)

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = -100,
    ) -> Tensor:
        """Returns the loss: 0-d, or (N, C + 1) for reduction "none".

        Args:
            cls_score: logits, (N, C + 1).
            label: (N,) int64; negative ones and ``ignore_index`` are ignored.
            weight: RoI weights, (N,).
            avg_factor: divisor of the sum for "mean", instead of N * (C + 1).
            reduction_override: replaces the constructor's reduction.
            ignore_index: a further label to ignore.
        """
        pred = base.full_precision(cls_score)
        target, row_weight = base.prepare_labels(pred, label, weight, ignore_index)
        loss = gumbel_bce(pred, target, self.mode)
        loss = base.reduce_rows(loss, row_weight, self._reduction(reduction_override), avg_factor)
        return self.loss_weight * (loss.clamp(0, 20) if self.mode == "paper" else loss)
