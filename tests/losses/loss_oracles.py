"""Oracles of the losses: value and derivative per element, no autograd, no code of the package."""

import math

import torch

from gol.losses import LOSSES

MODES = ("paper", "exact", "clamped")
IMAGE_COUNTS = (500, 3, 1, 101, 40, 100, 7)  # frequencies of 1000 annotated images
INSTANCE_COUNTS = (600, 3, 2, 350, 60, 170, 30)
IMAGES = 1200
LAMBDA = 0.02  # makes classes 1, 2 and 6 rare
C = len(IMAGE_COUNTS)


def batch(rng, n=64, spread=3.0, channels=C + 1):
    """Random logits (n, channels), labels with a background and ignored ones, and weights."""
    logits = torch.randn(n, channels, generator=rng) * spread - 1
    labels = torch.randint(0, C + 1, (n,), generator=rng)
    labels[torch.rand(n, generator=rng) < 0.1] = -1
    return logits.requires_grad_(), labels, torch.rand(n, generator=rng)


def channels(name):
    if name in LOSSES.others:  # another package's, which says so itself
        return C + LOSSES[name].background_channel
    return C + {"EQL": 0, "DropLoss": 0, "Federated": 0, "Focal": 0, "Seesaw": 2}.get(name, 1)


def published(p, slope, t, logit_inside):
    """What torch's float32 BCE and its backward make of a float32 probability."""
    value = -(t * p.log().clamp(min=-100) + (1 - t) * (-p).log1p().clamp(min=-100))
    derivative = (p - t) / (p * (1 - p)).clamp(min=1e-12) * slope * logit_inside
    return value, derivative


def gumbel_paper(x, t):
    z = x.clamp(-4, 10)
    u = (-z).exp()
    p = 1 / u.exp()
    return published(p, p * p * u.exp() * u, t, (x >= -4) & (x <= 10))


def gumbel_exact(x, t):
    x = x.double()
    u = (-x).exp()
    p = (-u).exp()
    negative = torch.where(p > 0.5, (-torch.expm1(-u)).log(), (-p).log1p())
    positive_slope, negative_slope = -u, -u * p / torch.expm1(-u)
    return torch.where(t > 0, u, -negative), torch.where(t > 0, positive_slope, negative_slope)


def gumbel_clamped(x, t):
    value, derivative = gumbel_exact(x.clamp(-10, 10), t)
    return value, derivative * ((x >= -10) & (x <= 10))


def normal_paper(x, t):
    z = x.clamp(-5, 5)
    p = 1 / 2 + torch.erf(z / (2 ** (1 / 2))) / 2
    return published(p, (-z * z / 2).exp() / math.sqrt(2 * math.pi), t, (x >= -5) & (x <= 5))


def sigmoid(x, t):
    x = x.double()
    return t * (-x).exp().log1p() + (1 - t) * x.exp().log1p(), torch.sigmoid(x) - t


def class_relative(x, t, mode):
    frequent = torch.tensor([count > 100 for count in IMAGE_COUNTS] + [False])[: x.shape[1]]
    pairs = zip(normal_paper(x, t), GUMBEL[mode](x, t), strict=True)
    return tuple(torch.where(frequent, normal, gumbel) for normal, gumbel in pairs)


GUMBEL = {"paper": gumbel_paper, "exact": gumbel_exact, "clamped": gumbel_clamped}


def one_hot(x, labels):
    t = torch.zeros_like(x, requires_grad=False)
    for i, label in enumerate(labels.tolist()):
        if 0 <= label < x.shape[1]:
            t[i, label] = 1
    return t


def assert_matches(loss, logits, value, derivative, rounding=1e-7):
    """Compares a 0-d loss and the logits' gradient, up to the rounding of float32 oracles."""
    loss.backward()
    torch.testing.assert_close(loss.double(), value.double(), rtol=1e-6, atol=1e-9)
    atol = rounding * float(derivative.abs().max())
    torch.testing.assert_close(logits.grad.double(), derivative.double(), rtol=5e-6, atol=atol)
