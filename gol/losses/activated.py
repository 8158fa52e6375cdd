"""Losses that work with more than one activation: channels, scores, cross entropy, reduction."""

import torch
from torch import Tensor
from torch.nn import functional as F

from gol.activations import ACTIVATIONS, Activation
from gol.errors import UserError, choices, plural, unknown
from gol.losses import base
from gol.losses.class_relative import normal_bce
from gol.losses.gumbel import gumbel_bce


def cross_entropy(activation: str, pred: Tensor, target: Tensor, mode: str = "paper") -> Tensor:
    """Per-element cross entropy (N, K) of float32 or float64 logits.

    For softmax it is 0 but at the target; every other activation has a binary one per channel.

    Args:
        activation: a name of ``ACTIVATIONS``.
        pred: logits, (N, K).
        target: 0 or 1, (N, K).
        mode: for gumbel; see :func:`gol.gumbel_cross_entropy`.
    """
    if activation == "softmax":
        return -target * pred.log_softmax(dim=1)
    if activation == "sigmoid":
        return F.binary_cross_entropy_with_logits(pred, target, reduction="none")
    if activation == "gumbel":
        return gumbel_bce(pred, target, mode)
    if activation == "normal":
        return normal_bce(pred, target)
    return binary_cross_entropy(ACTIVATIONS[activation], pred, target)


def binary_cross_entropy(activation: Activation, pred: Tensor, target: Tensor) -> Tensor:
    """Per-element binary cross entropy (N, K) of any activation.

    Each logarithm sees only the logits that need it: the other may have no bound there, and 0
    times infinity is no gradient.

    Args:
        activation: of independent classes.
        pred: logits, (N, K).
        target: 0 or 1, (N, K), at most one 1 in a row.
    """
    hot = target > 0
    own = pred.masked_fill(~hot, 0).sum(dim=1, keepdim=True)
    others = activation.log_complement(pred.masked_fill(hot, 0))
    return -torch.where(hot, activation.log_probability(own), others)


class ActivatedLoss(base.ClassificationLoss):
    """Base of the losses that re-weight or shift the cross entropy of a chosen activation.

    With softmax the classes and the background, which has a channel, compete. With any other
    activation each class is a binary problem of its own; the background is then a channel only if
    the subclass says so, and its score discounts those of the classes. A subclass defines
    :meth:`elements`.

    Args:
        activation: a name of ``gol.activations.ACTIVATIONS``.
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C.
        mode: for gumbel; see :func:`gol.gumbel_cross_entropy`.

    Attributes:
        only: the one activation that the loss is made for; None: it takes others.
        competing: whether softmax makes sense.
        reason: why other activations make none.
        binary_background: whether the background is a binary problem beside the classes.

    Raises:
        UserError: an argument outside its allowed values, or a pair that makes no sense.
    """

    only: str | None = None
    competing: bool = True
    reason: str = ""
    binary_background: bool = False

    def __init__(
        self, activation: str, reduction: str, loss_weight: float, num_classes: int, mode: str
    ) -> None:
        super().__init__(activation != "softmax", reduction, None, loss_weight, num_classes, mode)
        self.activation = self._sensible(activation)
        self.background_channel = activation == "softmax" or self.binary_background

    def _sensible(self, activation: str) -> str:
        if activation not in ACTIVATIONS:
            raise unknown("activation", activation, [*ACTIVATIONS])
        others = [name for name in ACTIVATIONS if self.competing or name != "softmax"]
        allowed = [self.only] if self.only else others
        if activation not in allowed:
            raise UserError(
                f"{type(self).__name__} with activation {activation!r} makes no sense: "
                f"{self.reason}; allowed: {choices(allowed)}"
            )
        return activation

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, K).

        Args:
            pred: float32 or float64 logits, (N, K).
            target: one-hot, (N, C), or (N, C + 1) where the background has a channel.
            row_weight: (N,), 0 for what is ignored.
        """
        raise NotImplementedError(f"{type(self).__name__} has no elements")

    def divisor(
        self, target: Tensor, row_weight: Tensor, avg_factor: float | Tensor | None
    ) -> float | Tensor:
        """Returns what "mean" divides the sum by: ``avg_factor``, or else N.

        Args:
            target: as in :meth:`elements`.
            row_weight: as in :meth:`elements`.
            avg_factor: as in :meth:`forward`.
        """
        return max(len(target), 1) if avg_factor is None else avg_factor

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = -100,
    ) -> Tensor:
        """Returns the loss: 0-d, or (N, K) for reduction "none".

        Args:
            cls_score: logits, (N, K).
            label: (N,) int64; negative ones and ``ignore_index`` are ignored.
            weight: RoI weights, (N,); of rows that weigh 0 not even NaN matters.
            avg_factor: divisor of the sum for "mean", instead of N; see :meth:`divisor`.
            reduction_override: replaces the constructor's reduction.
            ignore_index: a further label to ignore.

        Raises:
            UserError: another number of logits than K.
        """
        wanted = self.get_cls_channels(self.num_classes)
        if cls_score.shape[1] != wanted:
            raise UserError(
                f"{type(self).__name__}: {cls_score.shape[1]} logits per region; allowed: {wanted} "
                f"for {plural(self.num_classes, 'class')}"
            )
        pred = base.full_precision(cls_score)
        known = pred[:, : self.num_classes + 1]
        target, row_weight = base.prepare_labels(known, label, weight, ignore_index)
        pred = pred.masked_fill((row_weight == 0)[:, None], 0)
        loss = self.elements(pred, target, row_weight)
        reduction = self._reduction(reduction_override)
        if reduction == "mean":
            avg_factor = self.divisor(target, row_weight, avg_factor)
        return self.loss_weight * base.reduce_rows(loss, row_weight, reduction, avg_factor)

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Returns the scores (N, C + 1) of logits (N, K), float32.

        A background that is a binary problem leaves ``p_c (1 - p_background)`` to class c.
        """
        scores = ACTIVATIONS[self.activation].probability(cls_score)
        if self.activation == "softmax":
            return scores
        if not self.binary_background:
            return F.pad(scores, (0, 1))
        background = scores[:, -1:]
        return torch.cat([scores[:, :-1] * (1 - background), background], dim=1)
