"""LogN: each class's logits are normalised by what they were on training images."""

import torch
from torch import Tensor

from gol.calibration.base import Known, Score, SenselessError, checked, competing, like, scored
from gol.errors import UserError


def logn(logits: Tensor, score: Score, known: Known, strength: float = 0.0) -> Tensor:
    """Returns calibrated scores (N, C + 1) of logits (N, C + 1).

    With mean mu and deviation sigma of a class's logits over the RoIs of training images, the
    softmax of ``(z_c - (mu_c - min_j mu_j)) / sigma_c``; the background stays as it is.

    Args:
        logits: (N, C + 1).
        score: turns logits into scores.
        known: what is known of the training set, with mean and variance.
        strength: without effect; the method has no parameter.

    Raises:
        UserError: no mean and variance.
        SenselessError: the K logits are not those of C classes and the background that compete.

    Source: Zhao et al., "LogN: Logit Normalization for Long-Tailed Object Detection", IJCV 2024.
    """
    logits = checked(logits)
    if logits.shape[1] != known.classes + 1 or not competing(score, logits):
        raise SenselessError(
            "logn compares the logits of classes and a background in one softmax, which this "
            "classifier has not; allowed: none, norcal, logit_adjust and, but for eqlv2 and ecm, "
            "fracal"
        )
    if known.mean is None or known.variance is None:
        raise UserError("logn needs mean and variance of the logits on training images")
    mean, variance = like(known.mean, logits)[:-1], like(known.variance, logits)[:-1]
    moved = (logits[:, :-1] - (mean - mean.min())) / variance.clamp(min=1e-11).sqrt()
    return scored(torch.cat([moved.to(logits), logits[:, -1:]], dim=1), score, known)
