"""DropLoss: equalization loss that also drops background negatives of rare classes at random."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gol.errors import UserError
from gol.losses.eql import EQL


class DropLoss(EQL):
    """Equalization loss that spares rare classes on background RoIs, too.

    On a background RoI each rare class is left out with probability 1 - r, drawn anew for
    every element, where r is the share of rare classes among the batch's foreground labels (no
    foreground: nothing is left out). Everything else is :class:`gol.losses.EQL`.

    Args:
        use_iif: only False; with True the original reads weights that it nowhere defines.
        use_sigmoid: see :class:`gol.losses.EQL`, as for all other arguments.
        reduction: "mean", "sum" or "none".
        class_weight: without effect.
        loss_weight: factor on the loss.
        lambda_: frequency below which a class is rare.
        version: "v1" or "v0_5".
        use_classif: "gumbel", "sigmoid", "normal" or "cls_rel".
        num_classes: C.
        lvis_files: without effect.
        mode: see :func:`gol.gumbel_cross_entropy`.
        class_statistics: a class-statistics file that replaces ``version``.

    Raises:
        UserError: an argument outside its allowed values, or a file of another class count.

    Source: Hsieh et al., "DropLoss for Long-Tail Instance Segmentation", AAAI 2021.
    """

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
        use_iif: bool = False,
        lvis_files: str | None = None,
        mode: str = "paper",
        class_statistics: str | Path | None = None,
    ) -> None:
        if use_iif:
            raise UserError(f"use_iif is {use_iif!r}; allowed: False")
        super().__init__(
            use_sigmoid=use_sigmoid,
            reduction=reduction,
            class_weight=class_weight,
            loss_weight=loss_weight,
            lambda_=lambda_,
            version=version,
            use_classif=use_classif,
            num_classes=num_classes,
            lvis_files=lvis_files,
            mode=mode,
            class_statistics=class_statistics,
        )
        self.use_iif = False

    def dropped_negatives(self, label: Tensor, foreground: Tensor) -> Tensor:
        """Returns the mask (N, C) of terms to leave out where they are negatives.

        Draws N * C uniform numbers from torch's generator, as the original does, so that both
        drop the same terms from the same seed.

        Args:
            label: (N,) int64.
            foreground: mask (N,) of the RoIs with a class.
        """
        rare_label = foreground & self.rare[label.clamp(0, len(self.rare) - 1)]
        ratio = rare_label.sum() / foreground.sum()  # 0 / 0 is nan, and nothing exceeds nan
        draw = torch.rand(len(label), len(self.rare), device=label.device)
        return (foreground[:, None] | (draw > ratio)) & self.rare
