"""Equalization loss: the positives of other classes do not push a rare class down."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from gol.activations import ACTIVATIONS
from gol.errors import UserError, plural
from gol.losses import base
from gol.losses.activated import cross_entropy
from gol.losses.class_relative import (
    class_relative_bce,
    class_relative_probability,
    frequent_mask,
)

CLASSIFIERS = ("gumbel", "sigmoid", "normal", "cls_rel")


class EQL(base.ClassificationLoss):
    """Binary cross entropy over C classes without the negatives of rare classes.

    A class is rare if its image frequency (images with the class / annotated images) is below
    ``lambda_``. On a foreground RoI the terms of all rare classes but the labelled one are left
    out; a background RoI is a negative of every class. The loss is the sum of the kept terms
    divided by N, the number of rows.

    Args:
        use_sigmoid: without effect, as in the original.
        reduction: "mean" (the sum over N), "sum" or "none".
        class_weight: without effect, as in the original.
        loss_weight: factor on the loss.
        lambda_: frequency below which a class is rare: 0.0011 selects 815 classes of LVIS v1,
            0.00177 selects 915 of v0.5.
        version: "v1" or "v0_5", whose published frequencies to take.
        use_classif: activation: "gumbel", "sigmoid", "normal", or "cls_rel" (the normal CDF for
            frequent classes, Gumbel for all others).
        num_classes: C.
        lvis_files: without effect; the original read image counts from this path, here they
            come from the class statistics.
        mode: for the Gumbel channels; see :func:`gol.gumbel_cross_entropy`.
        class_statistics: a class-statistics file that replaces ``version``.

    Raises:
        UserError: an argument outside its allowed values, or a file of another class count.

    Source: Tan et al., "Equalization Loss for Long-Tailed Object Recognition", CVPR 2020.
    """

    background_channel = False

    def __init__(
        self,
        use_sigmoid: bool = True,
        reduction: str = "mean",
        class_weight: Any = None,
        loss_weight: float = 1.0,
        lambda_: float = 0.00177,
        version: str = "v0_5",
        use_classif: str = "gumbel",
        num_classes: int = 1203,
        lvis_files: str | None = None,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
    ) -> None:
        super().__init__(use_sigmoid, reduction, class_weight, loss_weight, num_classes, mode)
        self.lambda_ = lambda_
        self.version = version
        self.use_classif = base.allowed("use_classif", use_classif, CLASSIFIERS)
        statistics = base.load_statistics(version, class_statistics, num_classes)
        frequency = torch.tensor(statistics.image_frequency())
        self.register_buffer("freq_info", frequency, persistent=False)
        self.register_buffer("rare", frequency < lambda_, persistent=False)
        self.register_buffer("frequent", frequent_mask(statistics), persistent=False)

    def get_cls_channels(self, num_classes: int) -> int:
        """Returns K = C; raises UserError where head, loss and statistics do not agree."""
        self._check_classes(num_classes)
        return super().get_cls_channels(num_classes)

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Returns probabilities (N, C + 1) of logits (N, C): 0 for the background, float32."""
        if self.use_classif == "cls_rel":
            scores = class_relative_probability(cls_score, self.frequent)
        else:
            scores = ACTIVATIONS[self.use_classif].probability(cls_score)
        return F.pad(scores, (0, 1))

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int = -100,
    ) -> Tensor:
        """Returns the loss: 0-d, or (N, C) for reduction "none".

        Args:
            cls_score: logits, (N, C).
            label: (N,) int64; negative ones and ``ignore_index`` are ignored.
            weight: RoI weights, (N,).
            avg_factor: without effect, as in the original: "mean" divides by N.
            reduction_override: replaces the constructor's reduction.
            ignore_index: a further label to ignore.
        """
        self._check_classes(cls_score.shape[1])
        pred = base.full_precision(cls_score)
        target, row_weight = base.prepare_labels(pred, label, weight, ignore_index)
        foreground = (label >= 0) & (label < self.num_classes) & (label != ignore_index)
        dropped = self.dropped_negatives(label, foreground).logical_and_(target == 0)
        loss = self._bce(pred, target).masked_fill(dropped, 0)
        reduction = self._reduction(reduction_override)
        rows = max(len(label), 1) if reduction == "mean" else None
        return self.loss_weight * base.reduce_rows(loss, row_weight, reduction, rows)

    def dropped_negatives(self, label: Tensor, foreground: Tensor) -> Tensor:
        """Returns the mask (N, C) of terms to leave out where they are negatives.

        Args:
            label: (N,) int64.
            foreground: mask (N,) of the RoIs with a class.
        """
        return foreground[:, None] & self.rare

    def _bce(self, pred: Tensor, target: Tensor) -> Tensor:
        if self.use_classif == "cls_rel":
            return class_relative_bce(pred, target, self.frequent, self.mode)
        return cross_entropy(self.use_classif, pred, target, self.mode)

    def _check_classes(self, channels: int) -> None:
        if channels != len(self.rare):
            raise UserError(
                f"{type(self).__name__}: {plural(channels, 'class')}, but the class statistics "
                f"have {len(self.rare):,} (version {self.version!r}); set version, num_classes or "
                "class_statistics"
            )
