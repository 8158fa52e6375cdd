"""Squeeze-and-excitation gates of a backbone, with an activation that learns its form."""

import torch
from mmcv.cnn.bricks.registry import PLUGIN_LAYERS
from torch import Tensor, nn

from gol.activations import APA


class LearnedAPA(nn.Module):
    """:class:`gol.activations.APA` with one lambda and one kappa of its own, both learned.

    They are taken as between 1e-4 and 10 and between -3.5 and 3.5; outside they have no gradient.
    They start uniformly in (0, 1) and (-1, 0), and are named as in the authors' files.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lambda_param = nn.Parameter(torch.empty(1).uniform_(0, 1))
        self.kappa_param = nn.Parameter(torch.empty(1).uniform_(-1, 0))

    def forward(self, x: Tensor) -> Tensor:
        """Returns ``p`` of logits of any shape; float64 for float64, float32 for narrower ones."""
        lambda_, kappa = self.lambda_param.clamp(1e-4, 10), self.kappa_param.clamp(-3.5, 3.5)
        return APA(lambda_.squeeze(), kappa.squeeze()).probability(x)


@PLUGIN_LAYERS.register_module()
class APAGate(nn.Module):
    """Scales every channel of a block's output by an APA of all channels' means.

    A plugin of mmdet's ResNet for ``position: after_conv3``: it stands where a squeeze-and-
    excitation block does, behind the last norm and before the block's input is added.

    Args:
        in_channels: C.
        ratio: C over the channels between the two linear layers.
        dropout: of the second layer's outputs, while training.

    Raises:
        ValueError: ``ratio`` leaves no channel.

    Source: Alexandridis et al., "Adaptive Parametric Activation", ECCV 2024; the layers' names are
    those of its authors' code.
    """

    _abbr_ = "se"  # by which mmcv names it in a block

    def __init__(self, in_channels: int, ratio: int = 16, dropout: float = 0.1) -> None:
        super().__init__()
        between = in_channels // ratio
        if between < 1:
            raise ValueError(f"ratio is {ratio}; allowed: 1 to the {in_channels} channels")
        self.norm = nn.LayerNorm(in_channels)
        self.excitation = nn.Sequential(
            nn.Linear(in_channels, between, bias=False),
            nn.ReLU(inplace=True),
            nn.Linear(between, in_channels, bias=False),
            nn.Dropout(dropout),
        )
        self.uniact = LearnedAPA()

    def forward(self, x: Tensor) -> Tensor:
        """Returns features (N, C, H, W) scaled by gates (N, C), in their own dtype."""
        gates = self.uniact(self.excitation(self.norm(x.mean((2, 3)))))
        return x * gates.to(x.dtype)[..., None, None]
