"""The function: golden values, the published code's gradient and its dead zone, every mode."""

import math

import pytest
import torch
from loss_oracles import GUMBEL, MODES, assert_matches, batch, gumbel_exact, one_hot

import gol
from gol.errors import UserError
from gol.losses.class_relative import normal_bce


def test_golden_values():
    """exp(-x) for positives, -log(1 - exp(-exp(-x))) for negatives; worked out by hand."""
    x = torch.tensor([0.0, 1.0, -1.0, 0.0, 1.0, -1.0], dtype=torch.float64, requires_grad=True)
    t = torch.tensor([1, 1, 1, 0, 0, 0])
    e = math.e
    values = [1, 1 / e, e, -math.log(1 - e**-1), -math.log(1 - e ** (-1 / e))]
    values.append(-math.log(1 - e**-e))
    slopes = [-1, -1 / e, -e, 1 / (e - 1), 1 / e / (e ** (1 / e) - 1), e / (e**e - 1)]
    for mode in MODES:
        loss = gol.gumbel_cross_entropy(x, t, "none", mode)
        (slope,) = torch.autograd.grad(loss.sum(), x)
        assert loss.tolist() == pytest.approx(values, rel=1e-12)
        assert slope.tolist() == pytest.approx(slopes, rel=1e-12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_gumbel_cross_entropy(mode, reduction, rng):
    logits, labels, _ = batch(rng, n=200, spread=4)
    t = one_hot(logits, labels)
    loss = gol.gumbel_cross_entropy(logits, t.long(), reduction, mode)
    value, slope = GUMBEL[mode](logits.detach(), t)
    if reduction == "none":
        assert loss.shape == logits.shape
        expected = value.clamp(0, 20) if mode == "paper" else value
        torch.testing.assert_close(loss.double(), expected.double(), rtol=1e-6, atol=1e-12)
        return
    divisor = value.numel() if reduction == "mean" else 1
    value = value.double().sum() / divisor
    inside = mode != "paper" or value <= 20
    value = value.clamp(0, 20) if mode == "paper" else value
    assert_matches(loss, logits, value, slope.double() / divisor * inside)


@pytest.mark.parametrize("activation", ["gumbel", "normal"])
def test_paper_mode_is_the_published_formula_bit_for_bit(activation, rng):
    logits, labels, _ = batch(rng, n=300, spread=5)
    t = one_hot(logits, labels)
    if activation == "gumbel":
        p = 1 / (torch.exp(torch.exp(-(torch.clamp(logits, min=-4, max=10)))))
        loss = gol.gumbel_cross_entropy(logits, t, "none")
    else:
        p = 1 / 2 + torch.erf(torch.clamp(logits, min=-5, max=5) / (2 ** (1 / 2))) / 2
        loss = normal_bce(logits, t).clamp(0, 20)
    expected = torch.nn.functional.binary_cross_entropy(p, t, reduction="none").clamp(0, 20)
    weight = torch.rand(loss.shape, generator=rng)
    (gradient,) = torch.autograd.grad((loss * weight).sum(), logits)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), logits)
    assert torch.equal(loss, expected)
    assert torch.equal(gradient, expected_gradient)


def gradients(x, mode):
    """Derivative of a positive's loss; many positives, so that the mean is not clamped."""
    pred = torch.full((1000,), 2.0)
    pred[0] = x
    pred.requires_grad_()
    gol.gumbel_cross_entropy(pred, torch.ones(1000), "mean", mode).backward()
    return 1000 * pred.grad[0].item()


@pytest.mark.parametrize(
    ("x", "share"), [(-3.3, 1), (-3.33, 0.735), (-3.51, 0.00298), (-3.8, 3.86e-8), (-4.0, 0)]
)
def test_dead_zone_of_the_published_code(x, share):
    """The numbers in the docstring: the share of the derivative that is left."""
    assert gradients(x, "exact") == pytest.approx(-math.exp(-x), rel=1e-5)
    assert gradients(x, "paper") == pytest.approx(-share * math.exp(-x), rel=0.01)


def test_paper_mode_gives_nothing_above_ten_and_beyond_a_loss_of_twenty():
    x = torch.tensor([11.0, -3.1], requires_grad=True)
    losses = gol.gumbel_cross_entropy(x, torch.tensor([0, 1]), "none")
    losses.sum().backward()
    assert losses.tolist() == [pytest.approx(10, rel=1e-3), 20]
    assert x.grad.tolist() == [0, 0]


@pytest.mark.parametrize("target", [0, 1])
def test_exact_mode_from_minus_80_to_80(target):
    x = torch.linspace(-80, 80, 321).requires_grad_()
    loss = gol.gumbel_cross_entropy(x, torch.full((321,), target), "none", "exact")
    loss.sum().backward()
    value, slope = gumbel_exact(x.detach(), torch.tensor(target))
    torch.testing.assert_close(loss.double(), value, rtol=1e-6, atol=1e-38)
    torch.testing.assert_close(x.grad.double(), slope, rtol=1e-6, atol=1e-38)


def test_exact_mode_stays_finite_for_any_finite_logit():
    x = torch.tensor([-3e38, -1000.0, -89.0, 89.0, 1000.0, 3e38])
    for target in (0, 1):
        pred = x.clone().requires_grad_()
        loss = gol.gumbel_cross_entropy(pred, torch.full((6,), target), "none", "exact")
        loss.backward(torch.ones(6))
        assert loss.isfinite().all() and pred.grad.isfinite().all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_no_element_has_loss_zero_and_a_gradient(mode, reduction):
    pred = torch.zeros(0, 4, requires_grad=True)
    loss = gol.gumbel_cross_entropy(pred, torch.zeros(0, 4), reduction, mode)
    loss.backward()
    assert loss.item() == 0 and pred.grad.shape == (0, 4)


@pytest.mark.parametrize("mode", MODES)
def test_gradcheck(mode, rng):
    """In paper mode between the clamps and above the dead zone, where autograd is the truth."""
    x = (torch.rand(30, generator=rng, dtype=torch.float64) * 12 - 3).requires_grad_()
    t = torch.rand(30, generator=rng, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: gol.gumbel_cross_entropy(x, t, "sum", mode) / 30, x)


@pytest.mark.parametrize("mode", MODES)
def test_soft_labels_mix_the_two_terms(mode, rng):
    x = torch.rand(50, generator=rng) * 8 - 3
    t = torch.rand(50, generator=rng)
    positive, negative = (
        gol.gumbel_cross_entropy(x, torch.full((50,), target), "none", mode) for target in (1, 0)
    )
    loss = gol.gumbel_cross_entropy(x, t, "none", mode)
    expected = (t * positive + (1 - t) * negative).clamp(0, 20)
    torch.testing.assert_close(loss[positive < 20], expected[positive < 20], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("key", ["reduction", "mode"])
def test_gumbel_cross_entropy_refuses(key):
    with pytest.raises(UserError, match=f"{key} is 'x'; allowed: "):
        gol.gumbel_cross_entropy(torch.zeros(2), torch.zeros(2), **{key: "x"})
    with pytest.raises(ValueError, match=r"label is \(3,\); allowed: pred's \(2,\)"):
        gol.gumbel_cross_entropy(torch.zeros(2), torch.zeros(3))
