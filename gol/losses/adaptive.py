"""Cross entropy on an activation that learns its form: it starts as Gumbel."""

import torch
from torch import Tensor, nn

from gol.activations import APA
from gol.losses import base
from gol.losses.activated import ActivatedLoss, binary_cross_entropy

LEAST = 1e-4  # of lambda, where the activation is Gumbel's


class AdaptiveCE(ActivatedLoss):
    """Binary cross entropy of :class:`gol.activations.APA` over C classes and a background channel.

    lambda and kappa, one number each, are learned with the detector, weight decay included, and are
    part of the checkpoint. While training lambda is kept from falling below 1e-4; the original
    clamps it, so that one below never comes back. Scores are those of the activation alone.
    Gradients of the logits are Gumbel's in ``mode="exact"``: train it with gradient clipping. Those
    of lambda and kappa are sums over all elements; at the start, with 1,203 classes, lambda's has
    twice the norm of the classifier's, so that clipping takes more from all else than with Gumbel.

    Args:
        first_lambda: where lambda starts: 1e-4, Gumbel; 1, the sigmoid.
        first_kappa: where kappa starts.
        reduction: "mean" (the sum over N, or over ``avg_factor``), "sum" or "none".
        loss_weight: factor on the loss.
        num_classes: C.
        mode: without effect.

    Source: Alexandridis et al., "Adaptive Parametric Activation", ECCV 2024. There the activation
    stands in the backbone, and classifiers keep Gumbel; this use of it is ours.
    """

    binary_background = True

    def __init__(
        self,
        first_lambda: float = LEAST,
        first_kappa: float = 1.0,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        num_classes: int = 1203,
        mode: str = "paper",
    ) -> None:
        super().__init__("gumbel", reduction, loss_weight, num_classes, mode)
        self.activation = "apa"
        first_lambda = float(base.at_least(LEAST, "first_lambda", first_lambda))
        self.lambda_ = nn.Parameter(torch.tensor(first_lambda))
        self.kappa = nn.Parameter(torch.tensor(float(base.above(0, "first_kappa", first_kappa))))
        self.register_state_dict_pre_hook(_keep_lambda)

    def get_activation(self, cls_score: Tensor) -> Tensor:
        """Returns the probabilities (N, C + 1) of logits (N, C + 1), float32."""
        return self._activation().probability(cls_score)

    def elements(self, pred: Tensor, target: Tensor, row_weight: Tensor) -> Tensor:
        """Returns the loss per element, (N, C + 1)."""
        return binary_cross_entropy(self._activation(), pred, target)

    def _activation(self) -> APA:
        if not self.training:
            return APA(self.lambda_.clamp(min=LEAST), self.kappa)
        _keep_lambda(self)
        # Copies, because the next forward may come, and change lambda, before this one's backward.
        return APA(self.lambda_.clone(), self.kappa.clone())


@torch.no_grad()
def _keep_lambda(loss: AdaptiveCE, *_: object) -> None:
    """Brings lambda back to its least, before a forward and before it is saved."""
    loss.lambda_.clamp_(min=LEAST)
