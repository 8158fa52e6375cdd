"""Figures that explain the method; those of finished runs are in ``gol.results.plots``."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from gol.activations import ACTIVATIONS
from gol.losses.gumbel import gumbel_bce
from gol.results.colours import METHODS
from gol.results.drawing import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_GREY = "#666666"
_STYLES = {
    "Gumbel, exact": {"color": METHODS["gumbel_exact"], "linewidth": 4, "alpha": 0.45},
    "Gumbel, paper": {"color": METHODS["gumbel"], "linewidth": 1.8},
    "sigmoid": {"color": METHODS["sigmoid"], "linewidth": 1.8, "linestyle": "--"},
}
_DEAD = -3.32  # p = exp(-exp(-x)) falls below 1e-12


def gradient_curves(target: int, points: int = 1601) -> tuple[Tensor, dict[str, Tensor]]:
    """Derivative of each loss with respect to one logit, computed by autograd in float32.

    Args:
        target: 1 for a positive, 0 for a negative.
        points: number of logits between -8 and 8.

    Returns:
        The logits, (points,), and the derivatives (points,) by the loss's name.
    """
    logits = torch.linspace(-8, 8, points)
    losses = {
        "Gumbel, exact": lambda x, t: gumbel_bce(x, t, "exact"),
        "Gumbel, paper": lambda x, t: gumbel_bce(x, t, "paper"),
        "sigmoid": lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="none"),
    }
    curves = {}
    for name, loss in losses.items():
        x = logits.clone().requires_grad_()
        loss(x, torch.full_like(x, target)).sum().backward()
        curves[name] = x.grad
    return logits, curves


def loss_gradients(path: str | Path) -> None:
    """Draws the activations and the size of the losses' gradients, with the dead zone.

    Args:
        path: figure to write; the suffix gives the format.

    Raises:
        UserError: the file cannot be written.
    """
    figure = new_figure(12, 4)
    activations, positive, negative = figure.subplots(1, 3)
    _draw_activations(activations)
    _draw_positive(positive)
    _draw_negative(negative)
    for axes in (activations, positive, negative):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E4E4E4", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlim(-8, 8)
        axes.set_xlabel("logit x")
    save(figure, path)


def _draw_activations(axes: "Axes") -> None:
    x = torch.linspace(-8, 8, 801)
    looks = {
        "gumbel": ("Gumbel", {"color": METHODS["gumbel"], "linewidth": 1.8}),
        "sigmoid": ("sigmoid", _STYLES["sigmoid"]),
        "normal": ("normal CDF", {"color": _GREY, "linewidth": 1.5, "linestyle": ":"}),
    }
    for name, (label, look) in looks.items():
        axes.plot(x, ACTIVATIONS[name].probability(x), label=label, **look)
    axes.set_title("Probability p(x)", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="upper left")


def _draw_positive(axes: "Axes") -> None:
    x, curves = gradient_curves(target=1)
    axes.axvspan(-8, _DEAD, color="#F3E3E3", linewidth=0)
    for name, curve in curves.items():
        # A gradient of 0 has no place on a logarithmic axis: the line leaves at the bottom.
        axes.plot(x, curve.abs().clamp(min=1e-12), label=name, **_STYLES[name])
    axes.set_yscale("log")
    axes.set_ylim(1e-4, 1e4)
    axes.text(-7.7, 4e-4, "dead zone\n(x < −3.32)", color="#A04040", fontsize=9)
    axes.set_title("Positive: |∂loss / ∂x|", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="upper right")


def _draw_negative(axes: "Axes") -> None:
    x, curves = gradient_curves(target=0)
    for name, curve in curves.items():
        axes.plot(x, curve, label=name, **_STYLES[name])
    axes.set_title("Negative: |∂loss / ∂x|", loc="left", fontsize=11)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
