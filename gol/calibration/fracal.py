"""FRACAL: scores are corrected by how often a class occurs, and how spread out its objects are."""

import math

from torch import Tensor
from torch.nn import functional as F

from gol.calibration.base import (
    Known,
    Score,
    SenselessError,
    checked,
    competing,
    like,
    log_counts,
    reweighted,
    scored,
)
from gol.errors import UserError


def fracal(logits: Tensor, score: Score, known: Known, strength: float = 2.0) -> Tensor:
    """Returns calibrated scores (N, C + 1) of logits (N, K).

    With N_img training images, n_c of them with class c, and the fractal dimension Phi_c of the
    places of its objects, ``w_c = log10(N_img / n_c) - log10(C)``. Where classes compete,
    ``softmax(z + w)_c / Phi_c^lambda``, normalised so that a row sums to 1; the background is
    neither moved nor divided. Where they are independent,
    ``p(z_c) p(z_c + w_c + f_c)`` with ``f_c = -log10(Phi_c^lambda / sum Phi^lambda) - log10(C)``.

    Args:
        logits: (N, K).
        score: turns logits into scores.
        known: what is known of the training set.
        strength: lambda; at 0 only the frequency counts.

    Raises:
        UserError: no dimensions.
        SenselessError: independent classes whose background discounts them.

    Source: Alexandridis et al., "Fractal Calibration for Long-tailed Object Detection", CVPR 2025.
    """
    if known.dimensions is None:
        raise UserError("fracal needs the fractal dimensions of the training annotations")
    logits = checked(logits)
    scores, statistics = scored(logits, score, known), known.statistics
    classes = known.classes
    images = math.log(max(statistics.images, 1))
    rarity = (images - log_counts(statistics.image_counts, logits)) / math.log(10)
    frequency = rarity - math.log10(classes)
    spread = strength * like(known.dimensions, logits).log()
    if competing(score, logits):
        return reweighted(scores, F.pad(frequency - spread, (0, 1)))
    if bool(scores[:, -1].any()) and logits.shape[1] > classes and _discounted(logits, score):
        raise SenselessError(
            "fracal multiplies two scores of independent classes, and those of this classifier are "
            "products with a background's already; allowed: none, norcal, logit_adjust"
        )
    balance = -(spread - spread.exp().sum().log()) / math.log(10) - math.log10(classes)
    moved = F.pad(frequency + balance, (0, logits.shape[1] - classes)).to(logits)
    return scores * scored(logits + moved, score, known)


def _discounted(logits: Tensor, score: Score) -> bool:
    """Whether the scores of the classes follow from the background's logit, too."""
    other = logits.clone()
    other[:, -1] += 1
    return not bool((score(other)[:, :-1] == score(logits)[:, :-1]).all())
