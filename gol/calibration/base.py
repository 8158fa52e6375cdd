"""What the calibrations share: the facts of a training set, how scores behave, checks.

Shapes: N: RoIs, C: foreground classes, K: logits of a RoI (C, C + 1 with the background last, or
C + 2 for Seesaw).
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gol.errors import UserError
from gol.losses.base import full_precision
from gol.losses.class_statistics import ClassStatistics

#: Logits (N, K) to scores (N, C + 1), the background last: a loss's ``get_activation``.
Score = Callable[[Tensor], Tensor]


class SenselessError(UserError):
    """A calibration that the scores of a classifier do not fit, with those that do."""


@dataclass(frozen=True)
class Known:
    """What is known of a training set.

    Attributes:
        statistics: its class counts.
        dimensions: (C,) fractal dimensions, for FRACAL; None: not counted.
        mean: (K,) of the logits of training RoIs, for LogN; None: not measured.
        variance: (K,) of these.
    """

    statistics: ClassStatistics
    dimensions: Sequence[float] | None = None
    mean: Sequence[float] | None = None
    variance: Sequence[float] | None = None

    @property
    def classes(self) -> int:
        """C."""
        return len(self.statistics.ids)


def checked(logits: Tensor) -> Tensor:
    """The logits in float32 or float64.

    Raises:
        UserError: one of them is not a finite number.
    """
    if count := int((~logits.isfinite()).sum()):
        raise UserError(
            f"{count:,} of {logits.numel():,} logits are not finite numbers: the weights of the "
            "detector are damaged, or its training diverged"
        )
    return full_precision(logits)


def competing(score: Score, logits: Tensor) -> bool:
    """Whether the scores of a RoI, the background's among them, sum to 1 as those of softmax do."""
    channels = torch.arange(logits.shape[1]).to(logits)
    probe = torch.stack([channels.sin(), 2 * (3 * channels).cos() - 1])
    total = score(probe).sum(dim=1)
    return bool(((total - 1).abs() < 1e-4).all())


def scored(logits: Tensor, score: Score, known: Known) -> Tensor:
    """The scores (N, C + 1), of as many classes as the statistics have.

    Raises:
        UserError: another number of classes.
    """
    scores = score(logits)
    if scores.shape[1] != known.classes + 1:
        raise UserError(
            f"the logits are of {scores.shape[1] - 1} classes, the class statistics of "
            f"{known.classes}: another class list"
        )
    return scores


def like(values: Sequence[float], scores: Tensor) -> Tensor:
    """Numbers as a tensor beside the scores, in float64."""
    return torch.tensor(values, dtype=torch.float64, device=scores.device)


def log_counts(counts: Sequence[int], scores: Tensor) -> Tensor:
    """(C,) logarithms of class counts; a class without any counts as one."""
    return like([math.log(max(count, 1)) for count in counts], scores)


def reweighted(scores: Tensor, log_factors: Tensor) -> Tensor:
    """Scores (N, C + 1) of classes that compete, times factors (C + 1,), so that rows sum to 1."""
    # In float64, where no score that float32 can hold underflows with its factor.
    moved = scores.double().log() + log_factors
    return moved.softmax(dim=1).to(scores.dtype)
