"""Logit adjustment: the class frequencies of the training set are taken out of the logits."""

from torch import Tensor
from torch.nn import functional as F

from gol.calibration.base import Known, Score, checked, competing, log_counts, reweighted, scored


def logit_adjust(logits: Tensor, score: Score, known: Known, strength: float = 1.0) -> Tensor:
    """Returns calibrated scores (N, C + 1) of logits (N, K).

    The softmax of ``z_c - tau log(pi_c)``, where pi is the class's share of the training set's
    instances; the background is not moved. Independent classes have nothing to be compared with:
    they are scored at ``z_c - tau log(C pi_c)``, which leaves a class of average frequency alone.

    Args:
        logits: (N, K).
        score: turns logits into scores.
        known: what is known of the training set.
        strength: tau; 0 changes nothing.

    Source: Menon et al., "Long-tail learning via logit adjustment", ICLR 2021.
    """
    logits = checked(logits)
    factors = log_counts(known.statistics.instance_counts, logits)
    share = factors - factors.exp().sum().log()
    if competing(score, logits):
        return reweighted(scored(logits, score, known), F.pad(-strength * share, (0, 1)))
    shift = strength * (share - (1 / factors.new_tensor(known.classes)).log())
    return scored(
        logits - F.pad(shift, (0, logits.shape[1] - known.classes)).to(logits), score, known
    )
