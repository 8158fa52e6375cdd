"""No calibration: the scores as the classifier gives them."""

from torch import Tensor

from gol.calibration.base import Known, Score, checked, scored


def none(logits: Tensor, score: Score, known: Known, strength: float = 0.0) -> Tensor:
    """Returns the scores (N, C + 1) of logits (N, K), unchanged.

    Args:
        logits: (N, K).
        score: turns logits into scores.
        known: what is known of the training set.
        strength: without effect.
    """
    return scored(checked(logits), score, known)
