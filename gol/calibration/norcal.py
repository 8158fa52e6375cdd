"""NorCal: a class's score is divided by a power of its image count, and the row normalised."""

from torch import Tensor
from torch.nn import functional as F

from gol.calibration.base import Known, Score, checked, competing, log_counts, reweighted, scored


def norcal(logits: Tensor, score: Score, known: Known, strength: float = 0.5) -> Tensor:
    """Returns calibrated scores (N, C + 1) of logits (N, K).

    With n images of class c and s its score, ``s_c / n_c^gamma`` against an untouched background,
    normalised so that a row sums to 1.

    Classes that are independent each have their own background, 1 - s. Their odds are divided:
    ``s_c / (1 - s_c) / (n_c / n_mean)^gamma``; the mean count, which changes no order, keeps scores
    at their level. That form is ours; the method's code has only the softmax's.

    Args:
        logits: (N, K).
        score: turns logits into scores.
        known: what is known of the training set.
        strength: gamma; 0 changes nothing.

    Source: Pan et al., "On Model Calibration for Long-Tailed Object Detection and Instance
    Segmentation", NeurIPS 2021.
    """
    logits = checked(logits)
    scores, factors = (
        scored(logits, score, known),
        log_counts(known.statistics.image_counts, logits),
    )
    if competing(score, logits):
        return reweighted(scores, F.pad(-strength * factors, (0, 1)))
    shift = strength * (factors - factors.exp().mean().log())
    classes = scores[:, :-1].double()
    moved = (classes.logit() - shift).sigmoid().to(scores.dtype)
    return F.pad(moved, (0, 1))
