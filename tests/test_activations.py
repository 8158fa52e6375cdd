"""The activations against an oracle in 160-digit decimals, from the formulas."""

import math
import random
from decimal import Decimal, localcontext

import pytest
import torch

from gol.activations import ACTIVATIONS, APA

METHODS = ("probability", "log_probability", "log_complement")
ELEMENTWISE = ("gumbel", "sigmoid", "normal")
TINY = Decimal(torch.finfo(torch.float32).tiny)


@pytest.fixture(autouse=True)
def wide_decimals():
    with localcontext() as context:
        context.prec, context.Emin, context.Emax = 160, -(10**17), 10**17
        yield


@pytest.fixture
def rng():
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    return torch.Generator().manual_seed(seed)


def gumbel(x):
    u = (-x).exp()
    p = (-u).exp() if u < 10**6 else Decimal(0)
    q = 1 - p if u > Decimal("1e-30") else u - u * u / 2
    log_q = q.ln() if p > Decimal("1e-90") else -p
    return (p, u * p), (-u, u), (log_q, -u * p / q)


def sigmoid(x):
    p, q = 1 / (1 + (-x).exp()), 1 / (1 + x.exp())
    return (p, p * q), (p.ln(), q), (q.ln(), -p)


def normal(x):
    p, q = normal_tail(-x), normal_tail(x)
    density = (-x * x / 2).exp() / Decimal(2 * math.pi).sqrt()
    return (p, density), (p.ln(), density / p), (q.ln(), -density / q)


def normal_tail(t):
    """P(X > t): Laplace's continued fraction of the Mills ratio, or math.erfc in double."""
    if t < 5:
        lower = normal_tail(-t) if t < -5 else None
        return Decimal(math.erfc(t / Decimal(2).sqrt()) / 2) if lower is None else 1 - lower
    ratio = t
    for k in range(120, 0, -1):
        ratio = t + k / ratio
    return (-t * t / 2).exp() / Decimal(2 * math.pi).sqrt() / ratio


ORACLES = {"gumbel": gumbel, "sigmoid": sigmoid, "normal": normal}


def assert_close(computed, expected, what):
    """1e-6 relative, or two steps of float32's subnormal numbers."""
    computed = Decimal(float(computed))
    bound = max(abs(expected) * Decimal("1e-6"), Decimal(2) ** -148 if abs(expected) < TINY else 0)
    assert abs(computed - expected) <= bound, f"{what}: {computed:.8e}, expected {expected:.8e}"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_value_and_gradient_are_right_to_1e_6(name, method, rng):
    edges = torch.tensor([-80.0, -13.0, -4.55, -0.36651, 0.0, 0.36651, 17.0, 80.0])
    x = torch.cat([edges, torch.rand(60, generator=rng) * 160 - 80, torch.randn(60, generator=rng)])
    x.requires_grad_()
    y = getattr(ACTIVATIONS[name], method)(x)
    y.sum().backward()
    assert y.dtype == torch.float32
    for logit, value, slope in zip(x.tolist(), y.tolist(), x.grad.tolist(), strict=True):
        expected = ORACLES[name](Decimal(logit))[METHODS.index(method)]
        assert_close(value, expected[0], f"{name}.{method}({logit})")
        assert_close(slope, expected[1], f"derivative of {name}.{method} at {logit}")


def apa(x, lambda_, kappa):
    """Value, and derivatives by x, lambda and kappa, of each method."""
    e = (-kappa * x).exp()
    base = lambda_ * e + 1
    p = (-base.ln() / lambda_).exp()
    log_q = (1 - p).ln() if p > Decimal("1e-90") else -p
    slopes = (kappa * e / base, base.ln() / lambda_**2 - e / base / lambda_, x * e / base)
    by_q = -p / (1 - p)
    return (
        (p, *(p * slope for slope in slopes)),
        (-base.ln() / lambda_, *slopes),
        (log_q, *(by_q * slope for slope in slopes)),
    )


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("lambda_", "kappa"), [(1e-4, 1.0), (0.3, 1.7), (1.0, 1.0), (2.5, 0.4)])
def test_apa_and_its_three_derivatives_are_right_to_1e_6(method, lambda_, kappa, rng):
    """In float64 parameters, as it computes; at both ends it is Gumbel and the sigmoid."""
    values = torch.cat([torch.tensor([-40.0, 40.0]), torch.randn(20, generator=rng) * 4])
    for logit in values.tolist():
        x, *learned = (
            torch.tensor(v, dtype=torch.float64, requires_grad=True)
            for v in (logit, lambda_, kappa)
        )
        y = getattr(APA(*learned), method)(x)
        y.backward()
        expected = apa(*(Decimal(v.item()) for v in (x, *learned)))[METHODS.index(method)]
        parts = ("value", "x", "lambda", "kappa"), (y, *(v.grad for v in (x, *learned))), expected
        for part, computed, right in zip(*parts, strict=True):
            what = f"{method}'s {part} at {logit}, {lambda_}, {kappa}"
            if part == "lambda":  # a difference of two numbers, each the derivative by x / lambda
                rounding = 1e-13 * abs(float(expected[1])) / kappa / lambda_ + 1e-38
                assert abs(computed.item() - float(right)) <= 1e-6 * abs(float(right)) + rounding, (
                    what
                )
            elif abs(right) > TINY:
                assert_close(computed.detach(), right, what)


def test_apa_ends_in_gumbel_and_sigmoid(rng):
    x = torch.randn(50, generator=rng) * 3
    for lambda_, name in ((1e-12, "gumbel"), (1, "sigmoid")):
        for method in METHODS:
            computed, expected = (getattr(a, method)(x) for a in (APA(lambda_), ACTIVATIONS[name]))
            torch.testing.assert_close(computed, expected, rtol=1e-5, atol=1e-9)
    assert math.isclose(
        APA(0.5, 2).probability(torch.tensor(APA(0.5, 2).bias(0.01))), 0.01, rel_tol=1e-6
    )
    assert math.isclose(APA(1e-9).bias(0.01), ACTIVATIONS["gumbel"].bias(0.01), rel_tol=1e-6)
    # 0.01 ** -200 is beyond float64
    assert math.isclose(APA(200, 2).bias(0.01), (math.log(200) + 200 * math.log(0.01)) / 2)
    for lambda_, kappa in ((0, 1), (-1, 1), (0.5, 0)):
        with pytest.raises(ValueError, match="allowed: above 0, and not 0"):
            APA(lambda_, kappa).bias(0.01)


@pytest.mark.parametrize("method", METHODS)
def test_softmax_and_its_jacobian_are_right_to_1e_6(method, rng):
    ties = torch.tensor([[1.5, 1.5, -60.0, -60.0], [80.0, -80.0, -80.0, -80.0]])
    rows = torch.cat([ties, torch.rand(12, 4, generator=rng) * 160 - 80])
    for x in rows:
        jacobian = torch.autograd.functional.jacobian(getattr(ACTIVATIONS["softmax"], method), x)
        value = getattr(ACTIVATIONS["softmax"], method)(x)
        e = [Decimal(v).exp() for v in x.tolist()]
        for i in range(4):
            p, q = e[i] / sum(e), sum(e[:i] + e[i + 1 :]) / sum(e)
            log_q = -p - p * p / 2 if p < Decimal("1e-60") else q.ln()
            log_p = -q - q * q / 2 if q < Decimal("1e-60") else p.ln()
            assert_close(value[i], (p, log_p, log_q)[METHODS.index(method)], f"{x}[{i}]")
            for j in range(4):
                dlog_p = q if i == j else -e[j] / sum(e)
                expected = (p * dlog_p, dlog_p, -p * dlog_p / q)[METHODS.index(method)]
                assert_close(jacobian[i, j], expected, f"d {x}[{i}] / d [{j}]")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradcheck(name, method, rng):
    x = torch.randn(3, 5, generator=rng, dtype=torch.float64).mul_(3).requires_grad_()
    assert getattr(ACTIVATIONS[name], method)(x).dtype == torch.float64
    assert torch.autograd.gradcheck(getattr(ACTIVATIONS[name], method), x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_half_precision_and_autocast_compute_in_float32(name, method, dtype, rng):
    function = getattr(ACTIVATIONS[name], method)
    x = torch.randn(4, 6, generator=rng).mul_(4).clamp_(-8, 8).to(dtype).requires_grad_()
    wide = x.detach().float().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        y, expected = function(x), function(wide)
    assert y.dtype == expected.dtype == torch.float32
    assert torch.equal(y, function(wide.detach())) and torch.equal(y, expected)
    y.sum().backward()
    expected.sum().backward()
    assert x.grad.dtype == dtype
    assert torch.allclose(x.grad.float(), wide.grad, rtol=1e-2, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ELEMENTWISE)
def test_finite_for_every_finite_logit(name, method):
    x = torch.tensor([-3e38, -1e9, -1e4, -100.0, 100.0, 1e4, 1e9, 3e38], requires_grad=True)
    y = getattr(ACTIVATIONS[name], method)(x)
    y.sum().backward()
    assert y.isfinite().all() and x.grad.isfinite().all()


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_empty_input(name):
    x = torch.zeros(0, 4, requires_grad=True)
    y = ACTIVATIONS[name].probability(x)
    y.sum().backward()
    assert y.shape == x.grad.shape == (0, 4)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_bias_has_the_prior_as_probability(name, rng):
    prior = float(torch.rand((), generator=rng)) * 0.01 + 1e-5
    x = torch.tensor(ACTIVATIONS[name].bias(prior), dtype=torch.float64)
    assert math.isclose(ACTIVATIONS[name].probability(x).item(), prior, rel_tol=1e-9)


def test_softmax_bias_has_the_prior_against_a_zero_logit():
    x = torch.tensor([ACTIVATIONS["softmax"].bias(0.01), 0.0], dtype=torch.float64)
    assert math.isclose(ACTIVATIONS["softmax"].probability(x)[0].item(), 0.01, rel_tol=1e-9)


@pytest.mark.parametrize("prior", [0, 1, -0.1, math.nan])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_bias_refuses_what_is_no_probability(name, prior):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        ACTIVATIONS[name].bias(prior)
