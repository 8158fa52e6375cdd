"""The activations that turn a detector's logits into class probabilities.

Gumbel and sigmoid treat the classes as independent; softmax makes them compete along the last
dimension; the normal CDF is what the original's class-relative activations give to frequent
classes. For a logit ``x`` the probability ``p`` is

======= =============================== =======================================
gumbel  ``exp(-exp(-x))``               the paper, section 3
sigmoid ``1 / (1 + exp(-x))``
softmax ``exp(x) / sum(exp(x))``        over the last dimension
normal  ``(1 + erf(x / sqrt(2))) / 2``
======= =============================== =======================================

Each offers ``probability``, ``log_probability`` and ``log_complement`` (``log(1 - p)``): any
floating-point tensor in, the same shape out, as float64 for float64 and as float32 for anything
narrower, inside autocast too. For logits between -80 and 80 the float32 result and its gradient
are finite and within 1e-6 (relative) of the true value, or within 2e-45 of a value below 1e-38,
float32's smallest normal number.

Where a rounding error of the float32 argument would be amplified beyond that (``exp(-u)`` turns
an error of 1e-7 in ``u = 87`` into one of 1e-5), the step is taken in float64.
"""

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from gol.entry_points import Registry

__all__ = ["ACTIVATIONS", "APA", "Activation", "Gumbel", "Normal", "Sigmoid", "Softmax"]

#: A formula maps a logit to a value and to that value's derivative.
Formula = Callable[[Tensor], tuple[Tensor, Tensor]]


@runtime_checkable
class Activation(Protocol):
    """What every entry of :data:`ACTIVATIONS` can do; tensors keep their shape."""

    def probability(self, x: Tensor) -> Tensor:
        """Returns ``p``, between 0 and 1."""

    def log_probability(self, x: Tensor) -> Tensor:
        """Returns ``log(p)`` without forming ``p``."""

    def log_complement(self, x: Tensor) -> Tensor:
        """Returns ``log(1 - p)`` without forming ``1 - p``."""

    def bias(self, prior: float) -> float:
        """Returns the logit whose probability is ``prior``.

        It is the bias that makes a fresh classifier predict ``prior`` everywhere.

        Raises:
            ValueError: ``prior`` is not strictly between 0 and 1.
        """


class _Elementwise(torch.autograd.Function):
    """Applies a formula and keeps only its derivative, in the result's precision, for backward.

    Autograd through the same formulas would keep every intermediate, and would multiply
    0 by infinity where one branch of a ``torch.where`` overflows.
    """

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, formula: Formula) -> Tensor:
        dtype = torch.promote_types(x.dtype, torch.float32)
        value, slope = formula(x.to(dtype))
        if ctx.needs_input_grad[0]:
            ctx.save_for_backward(slope.to(dtype))
        return value.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None


class Gumbel:
    """``p = exp(-exp(-x))``, the CDF of the standard Gumbel distribution.

    Logits are taken as at least -88, where ``exp(-x)`` comes near float32's largest number, and
    as at most 87, so that ``log(p)`` and ``log(1 - p)`` stay finite whatever the logit.
    """

    def probability(self, x: Tensor) -> Tensor:
        """Returns ``p``; see the module's text for shapes, dtypes and accuracy."""
        return _Elementwise.apply(x, self._probability)

    def log_probability(self, x: Tensor) -> Tensor:
        """Returns ``log(p) = -exp(-x)``."""
        return _Elementwise.apply(x, self._log_probability)

    def log_complement(self, x: Tensor) -> Tensor:
        """Returns ``log(1 - p)``."""
        return _Elementwise.apply(x, self._log_complement)

    def bias(self, prior: float) -> float:
        """Returns ``-log(-log(prior))``; see :meth:`Activation.bias`."""
        return -math.log(-math.log(_checked(prior)))

    # In place where it can be: for a million logits the time goes into fresh memory, not into exp.

    @staticmethod
    def _probability(x: Tensor) -> tuple[Tensor, Tensor]:
        u = x.double().clamp(-88, 87).neg_().exp_()
        p = u.neg().exp_()
        return p, u.mul_(p)

    @staticmethod
    def _log_probability(x: Tensor) -> tuple[Tensor, Tensor]:
        u = x.clamp(-88, 87).neg_().exp_()
        return -u, u

    @staticmethod
    def _log_complement(x: Tensor) -> tuple[Tensor, Tensor]:
        p, slope = Gumbel._probability(x)
        # 1 - p, exact also where p rounds to 1
        complement = x.clamp(-88, 87).neg_().exp_().neg_().expm1_().neg_()
        slope = slope.to(x.dtype).div_(complement).neg_()
        small = p < 0.5
        return torch.where(small, p.neg_().log1p_().to(x.dtype), complement.log_()), slope


class Sigmoid:
    """``p = 1 / (1 + exp(-x))``, the CDF of the standard logistic distribution."""

    def probability(self, x: Tensor) -> Tensor:
        """Returns ``p``; see the module's text for shapes, dtypes and accuracy."""
        return _Elementwise.apply(x, self._probability)

    def log_probability(self, x: Tensor) -> Tensor:
        """Returns ``log(p)``."""
        return _Elementwise.apply(x, self._log_probability)

    def log_complement(self, x: Tensor) -> Tensor:
        """Returns ``log(1 - p)``, which is ``log(p)`` of ``-x``."""
        return self.log_probability(-x)

    def bias(self, prior: float) -> float:
        """Returns ``log(prior / (1 - prior))``; see :meth:`Activation.bias`."""
        return math.log(_checked(prior)) - math.log1p(-prior)

    @staticmethod
    def _probability(x: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.sigmoid(x)
        return p, p * torch.sigmoid(-x)

    @staticmethod
    def _log_probability(x: Tensor) -> tuple[Tensor, Tensor]:
        return F.logsigmoid(x), torch.sigmoid(-x)


class Normal:
    """The CDF of the standard normal distribution (the probit of the original's "normal")."""

    def probability(self, x: Tensor) -> Tensor:
        """Returns ``p``; see the module's text for shapes, dtypes and accuracy."""
        return _Elementwise.apply(x, self._probability)

    def log_probability(self, x: Tensor) -> Tensor:
        """Returns ``log(p)``."""
        return _Elementwise.apply(x, self._log_probability)

    def log_complement(self, x: Tensor) -> Tensor:
        """Returns ``log(1 - p)``, which is ``log(p)`` of ``-x``."""
        return self.log_probability(-x)

    def bias(self, prior: float) -> float:
        """Returns the normal quantile of ``prior``; see :meth:`Activation.bias`."""
        return NormalDist().inv_cdf(_checked(prior))

    @staticmethod
    def _probability(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.double()
        # erfc and not torch.special.ndtr, which loses the lower tail (0 at -13).
        return torch.erfc(x * -math.sqrt(0.5)) / 2, torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)

    @staticmethod
    def _log_probability(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.double().clamp(-1e19, 1e19)  # x * x must fit into float32
        hazard = math.sqrt(2 / math.pi) / torch.special.erfcx(x * -math.sqrt(0.5))
        return torch.special.log_ndtr(x), hazard


class Softmax:
    """``p = exp(x) / sum(exp(x))`` over the last dimension, of at least two classes.

    ``p`` is the sigmoid of the log-odds ``log(p / (1 - p))``, and so are its logarithms. This
    keeps ``log(p)`` of a class that is all but certain, which ``log_softmax`` rounds to 0.
    """

    def probability(self, x: Tensor) -> Tensor:
        """Returns ``p``; see the module's text for shapes, dtypes and accuracy."""
        return Sigmoid().probability(_log_odds(x)).to(torch.promote_types(x.dtype, torch.float32))

    def log_probability(self, x: Tensor) -> Tensor:
        """Returns ``log(p)``."""
        log_p = Sigmoid().log_probability(_log_odds(x))
        return log_p.to(torch.promote_types(x.dtype, torch.float32))

    def log_complement(self, x: Tensor) -> Tensor:
        """Returns ``log(1 - p)``."""
        log_q = Sigmoid().log_complement(_log_odds(x))
        return log_q.to(torch.promote_types(x.dtype, torch.float32))

    def bias(self, prior: float) -> float:
        """Returns the logit with probability ``prior`` against one other logit of 0."""
        return Sigmoid().bias(prior)


class _Adaptive(torch.autograd.Function):
    """``log(p)`` or ``log(1 - p)`` of :class:`APA`, with derivatives by all that may be learned.

    As in :class:`_Elementwise`, autograd would keep every intermediate, of which there are many.
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: Tensor,
        lambda_: Tensor,
        kappa: Tensor,
        complement: bool,
    ) -> Tensor:
        scaled = x * kappa
        inside = (scaled >= -88) & (scaled <= 87)
        e = scaled.clamp_(-88, 87).neg_().exp_()
        scaled = e * lambda_
        value = scaled.log1p().div_(-lambda_)
        slope = e.div_(scaled.add_(1))  # of log(p) by kappa x
        by_lambda = (value + slope).div_(-lambda_)
        if complement:
            p = value.exp()
            q = value.expm1_().neg_()
            odds = p.div(q).neg_()
            slope, by_lambda = slope.mul_(odds), by_lambda.mul_(odds)
            value = torch.where(p < 0.5, p.neg().log1p_(), q.log_())  # where p does not round to 1
        ctx.save_for_backward(x, kappa, slope.mul_(inside), by_lambda)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: Tensor) -> tuple[Any, ...]:
        x, kappa, slope, by_lambda = ctx.saved_tensors
        pull = grad * slope
        learned = (torch.dot(a.flatten(), b.flatten()) for a, b in ((grad, by_lambda), (pull, x)))
        return pull * kappa, *learned, None


class APA:
    """``p = (lambda exp(-kappa x) + 1) ** (-1 / lambda)``, the adaptive parametric activation.

    Towards lambda 0 it is ``exp(-exp(-kappa x))``, the Gumbel activation; at 1 the sigmoid of
    ``kappa x``. It is not in :data:`ACTIVATIONS`, since it has to be told its parameters; these may
    be learned. ``kappa x`` is taken as at least -88 and at most 87, as by :class:`Gumbel`.

    Args:
        lambda_: above 0; a number or a 0-d tensor.
        kappa: a number or a 0-d tensor.

    Source: Alexandridis et al., "Adaptive Parametric Activation", ECCV 2024.
    """

    def __init__(self, lambda_: float | Tensor, kappa: float | Tensor = 1.0) -> None:
        # In double precision: near 0, the derivative by lambda is a difference of like numbers.
        self.lambda_, self.kappa = (torch.as_tensor(v).double() for v in (lambda_, kappa))

    def probability(self, x: Tensor) -> Tensor:
        """Returns ``p``; see the module's text for shapes, dtypes and accuracy."""
        return (
            self._apply(x, complement=False).exp().to(torch.promote_types(x.dtype, torch.float32))
        )

    def log_probability(self, x: Tensor) -> Tensor:
        """Returns ``log(p)``."""
        return self._apply(x, complement=False).to(torch.promote_types(x.dtype, torch.float32))

    def log_complement(self, x: Tensor) -> Tensor:
        """Returns ``log(1 - p)``."""
        return self._apply(x, complement=True).to(torch.promote_types(x.dtype, torch.float32))

    def bias(self, prior: float) -> float:
        """Returns the logit with probability ``prior``; see :meth:`Activation.bias`."""
        lambda_, kappa = float(self.lambda_), float(self.kappa)
        if not lambda_ > 0 or not kappa:
            raise ValueError(f"lambda_ is {lambda_}, kappa {kappa}; allowed: above 0, and not 0")
        power = -lambda_ * math.log(_checked(prior))
        # log(expm1(power)), which itself may be too large
        return (math.log(lambda_) - power - math.log(-math.expm1(-power))) / kappa

    def _apply(self, x: Tensor, complement: bool) -> Tensor:
        return _Adaptive.apply(x.double(), self.lambda_, self.kappa, complement)


def _log_odds(x: Tensor) -> Tensor:
    """Returns ``log(p / (1 - p))`` of a softmax over the last dimension, in float64."""
    x = x.double()
    top = F.one_hot(x.argmax(dim=-1), x.shape[-1]).bool()
    # Only the top class can have 1 - p below 1/2, where 1 - p must be summed from the others. The
    # clamp never bites for the rest; it keeps log1p finite at the top, where it is not used.
    total = x.logsumexp(dim=-1, keepdim=True)
    others = x.masked_fill(top, -math.inf).logsumexp(dim=-1, keepdim=True)
    rest = total + torch.log1p(-(x - total).exp().clamp(max=0.75))
    return x - torch.where(top, others, rest)


def _checked(prior: float) -> float:
    if not 0 < prior < 1:
        raise ValueError(f"prior is {prior}; allowed: strictly between 0 and 1")
    return prior


#: Name, as used in experiments and pipeline files, to activation; other packages add classes of
#: theirs by entry points.
ACTIVATIONS = Registry(
    "gol.activations",
    {"gumbel": Gumbel(), "sigmoid": Sigmoid(), "softmax": Softmax(), "normal": Normal()},
    Activation,
    instances=True,
)
