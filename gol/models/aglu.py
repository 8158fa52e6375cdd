"""ResNet with AGLU, an activation that learns its form, in place of ReLU."""

from typing import Any, ClassVar

import torch
from mmdet.models.backbones.resnet import Bottleneck, ResNet
from mmdet.models.builder import BACKBONES
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

_FARTHEST = 80.0  # of -kappa x: exp of it is finite in float32
_SERIES = 1e-2  # below it log1p(t) - t / (1 + t) is a difference of like numbers


class _AGLU(torch.autograd.Function):
    """``x * APA(x)``; of its tensors only x is kept for backward."""

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx, x: Tensor, lambda_: Tensor, kappa: Tensor
    ) -> Tensor:
        ctx.save_for_backward(x, lambda_, kappa)
        wide = _wide(x)
        p, _ = _probability(wide, lambda_, kappa)
        return p.mul_(wide).to(x.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, ...]:
        x, lambda_, kappa = ctx.saved_tensors
        wide = _wide(x)
        p, t = _probability(wide, lambda_, kappa)
        inside = wide * -kappa <= _FARTHEST
        slope = torch.where(inside, p * t / (1 + t) / lambda_, 0)  # of p by kappa x
        series = t * t * (0.5 - t * (2 / 3 - 0.75 * t))
        curve = torch.where(t < _SERIES, series, t.log1p() - t / (1 + t)) / lambda_**2
        pull = grad.to(wide) * wide
        by_x = grad.to(wide) * p + kappa * pull * slope
        return by_x.to(x.dtype), (pull * p * curve).sum(), (pull * wide * slope).sum()


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _probability(x: Tensor, lambda_: Tensor, kappa: Tensor) -> tuple[Tensor, Tensor]:
    """APA of x, and lambda exp(-kappa x), of which it is a function."""
    t = (x * -kappa).clamp_(max=_FARTHEST).exp_().mul_(lambda_)
    return t.log1p().div_(-lambda_).exp_(), t


class AGLU(nn.Module):
    """``x * p(x)`` with :class:`gol.activations.APA` as p, whose lambda and kappa are learned.

    Lambda is taken as at least 1e-4 and has no gradient below. They start uniformly in (0, 1) and
    (1, 1.3), and are named as in the authors' files.

    Source: Alexandridis et al., "Adaptive Parametric Activation", ECCV 2024.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lambda_param = nn.Parameter(torch.empty(1).uniform_(0, 1))
        self.kappa_param = nn.Parameter(torch.empty(1).uniform_(1, 1.3))

    def forward(self, x: Tensor) -> Tensor:
        """Returns the activated features, of x's shape and dtype; half precision is widened."""
        lambda_ = self.lambda_param.clamp(min=1e-4).squeeze()
        return _AGLU.apply(x, lambda_, self.kappa_param.squeeze())


class AGLUBottleneck(Bottleneck):
    """mmdet's bottleneck with an AGLU in place of each of its three ReLUs."""

    def __init__(self, *args: Any, **settings: Any) -> None:
        super().__init__(*args, **settings)
        del self.relu
        self.unirect1, self.unirect2, self.unirect3 = AGLU(), AGLU(), AGLU()

    def forward(self, x: Tensor) -> Tensor:
        """Returns features (N, 4 planes, H / stride, W / stride) of features (N, C, H, W)."""
        if self.with_cp and x.requires_grad:
            return self.unirect3(checkpoint(self._sum, x, use_reentrant=False))
        return self.unirect3(self._sum(x))

    def _sum(self, x: Tensor) -> Tensor:
        """What comes in, and what the three convolutions make of it."""
        out = self._plugged(self.unirect1(self.norm1(self.conv1(x))), "after_conv1_plugin_names")
        out = self._plugged(self.unirect2(self.norm2(self.conv2(out))), "after_conv2_plugin_names")
        out = self._plugged(self.norm3(self.conv3(out)), "after_conv3_plugin_names")
        return out + (x if self.downsample is None else self.downsample(x))

    def _plugged(self, x: Tensor, names: str) -> Tensor:
        return self.forward_plugin(x, getattr(self, names)) if self.with_plugins else x


@BACKBONES.register_module()
class AGLUResNet(ResNet):
    """mmdet's ResNet-50, -101 and -152 of :class:`AGLUBottleneck`, with an AGLU in the stem too.

    A stem of three convolutions (``deep_stem``) keeps its ReLUs, as the authors' does.
    """

    arch_settings: ClassVar = {
        depth: (AGLUBottleneck, blocks)
        for depth, (block, blocks) in ResNet.arch_settings.items()
        if block is Bottleneck
    }

    def __init__(self, depth: int, **settings: Any) -> None:
        super().__init__(depth, **settings)
        if not self.deep_stem:
            self.relu = AGLU()
