"""The calibrations against their formulas, written out number by number in float64."""

import math

import numpy as np
import pytest
import torch

from gol.activations import ACTIVATIONS
from gol.calibration import CALIBRATIONS, Known
from gol.errors import UserError
from gol.losses import LOSSES
from gol.losses.class_statistics import ClassStatistics

C = 5
SOFTMAX = ACTIVATIONS["softmax"].probability


def known(rng, classes=C, zero=False):
    counts = rng.integers(1, 1000, classes)
    if zero:
        counts[1] = 0
    images = tuple(int(n) for n in counts)
    instances = tuple(int(n) * 3 for n in counts)
    names = tuple(f"class {i}" for i in range(classes))
    ids, groups = tuple(range(1, classes + 1)), ("f",) * classes
    statistics = ClassStatistics(ids, names, groups, images, instances, 2000, 1900)
    mean, variance = rng.normal(-4, 2, classes + 1), rng.uniform(0.1, 4, classes + 1)
    return Known(statistics, tuple(rng.uniform(1, 2, classes)), tuple(mean), tuple(variance))


def independent(name):
    """Scores as our losses give them where the background has no channel."""
    return lambda z: torch.nn.functional.pad(ACTIVATIONS[name].probability(z), (0, 1))


def softmax_row(z):
    top = max(z)
    e = [math.exp(v - top) for v in z]
    return [v / sum(e) for v in e]


def gumbel(v):
    return math.exp(-math.exp(-v))


def oracle_competing(method, z, facts, strength):
    """The scores of one RoI with C + 1 logits, from the published formulas."""
    counts, objects = facts.statistics.image_counts, facts.statistics.instance_counts
    if method == "none":
        return softmax_row(z)
    if method == "norcal":
        e = [math.exp(v) / max(n, 1) ** strength for v, n in zip(z[:-1], counts, strict=True)]
        e.append(math.exp(z[-1]))
        return [v / sum(e) for v in e]
    if method == "logit_adjust":
        total = sum(max(m, 1) for m in objects)
        shifts = [math.log(max(m, 1) / total) for m in objects]
        return softmax_row([v - strength * s for v, s in zip(z, [*shifts, 0], strict=True)])
    if method == "fracal":
        w = [math.log10(2000 / max(n, 1)) - math.log10(C) for n in counts]
        u = softmax_row([v + x for v, x in zip(z, [*w, 0], strict=True)])
        u = [v / d**strength for v, d in zip(u, [*facts.dimensions, 1], strict=True)]
        return [v / sum(u) for v in u]
    lowest = min(facts.mean[:-1])
    moved = [
        (v - (mean - lowest)) / math.sqrt(variance)
        for v, mean, variance in zip(z[:-1], facts.mean, facts.variance, strict=False)
    ]
    return softmax_row([*moved, z[-1]])


def oracle_independent(method, z, facts, strength):
    """The scores of one RoI with C logits of Gumbel."""
    counts, objects = facts.statistics.image_counts, facts.statistics.instance_counts
    p = [gumbel(v) for v in z]
    if method == "none":
        return p
    if method == "norcal":
        average = sum(max(n, 1) for n in counts) / C
        odds = [s / (1 - s) / (max(n, 1) / average) ** strength for s, n in zip(p, counts)]  # noqa: B905
        return [o / (1 + o) for o in odds]
    if method == "logit_adjust":
        total = sum(max(m, 1) for m in objects)
        return [gumbel(v - strength * math.log(C * max(m, 1) / total)) for v, m in zip(z, objects)]  # noqa: B905
    phi = [d**strength for d in facts.dimensions]
    w = [math.log10(2000 / max(n, 1)) - math.log10(C) for n in counts]
    f = [-math.log10(x / sum(phi)) + math.log10(1 / C) for x in phi]
    return [s * gumbel(v + a + b) for s, v, a, b in zip(p, z, w, f, strict=True)]


@pytest.mark.parametrize("method", CALIBRATIONS)
@pytest.mark.parametrize("dtype, close", [(torch.float64, 1e-11), (torch.float32, 3e-5)])
def test_softmax_is_calibrated_by_the_formula(method, dtype, close, rng):
    facts, strength = known(rng, zero=True), CALIBRATIONS[method].default * rng.uniform(0, 1)
    logits = rng.normal(0, 4, (7, C + 1))
    found = CALIBRATIONS[method].function(
        torch.tensor(logits, dtype=dtype), SOFTMAX, facts, strength
    )
    expected = [oracle_competing(method, row, facts, strength) for row in logits.tolist()]
    assert found.dtype == dtype
    np.testing.assert_allclose(found.numpy(), expected, rtol=close, atol=close * 1e-3)


@pytest.mark.parametrize("method", [name for name in CALIBRATIONS if name != "logn"])
def test_independent_classes_are_calibrated_by_the_formula(method, rng):
    facts, strength = known(rng, zero=True), CALIBRATIONS[method].default * rng.uniform(0, 1)
    logits = rng.normal(0, 1.5, (7, C))
    score = independent("gumbel")
    found = CALIBRATIONS[method].function(torch.tensor(logits), score, facts, strength)
    expected = [oracle_independent(method, row, facts, strength) for row in logits.tolist()]
    np.testing.assert_allclose(found[:, :-1].numpy(), expected, rtol=1e-9)
    assert not found[:, -1].any()


@pytest.mark.parametrize("method", ["norcal", "logit_adjust"])
@pytest.mark.parametrize("score, width", [(SOFTMAX, C + 1), (independent("sigmoid"), C)])
def test_strength_0_changes_nothing_and_more_favours_the_rarest(method, score, width, rng):
    facts = known(rng)
    logits = torch.tensor(rng.normal(0, 1, (4, width)))
    function = CALIBRATIONS[method].function
    before, after = function(logits, score, facts, 0.0), function(logits, score, facts, 1.0)
    torch.testing.assert_close(before, score(logits))
    counts = facts.statistics.image_counts
    rare, frequent = int(np.argmin(counts)), int(np.argmax(counts))
    ratio = (after[:, rare] / after[:, frequent]) / (before[:, rare] / before[:, frequent])
    assert (ratio >= 1).all() and (ratio.max() > 1 or counts[rare] == counts[frequent])


@pytest.mark.parametrize(
    "method, score, width",
    [(name, SOFTMAX, C + 1) for name in CALIBRATIONS]
    + [(name, independent("gumbel"), C) for name in CALIBRATIONS if name != "logn"],
)
def test_scores_stay_scores_for_any_logit(method, score, width, rng):
    """Half precision, logits at its ends, no RoI at all: from 0 to 1 and float32."""
    facts, calibration = known(rng), CALIBRATIONS[method]
    ends = torch.tensor([[-80.0] * width, [80.0] * width])
    for logits in (ends, ends.half(), torch.empty(0, width), 60000 * torch.eye(width).half()):
        found = calibration.function(logits, score, facts, calibration.default)
        assert found.dtype == torch.float32 and found.shape == (len(logits), C + 1)
        assert ((found >= 0) & (found <= 1)).all()


def test_a_loss_s_own_scores_are_calibrated(rng):
    """Seesaw's C + 2 logits are one distribution, too; EQLv2's classes have a background each."""
    facts = known(rng)
    seesaw, eqlv2 = LOSSES["Seesaw"](num_classes=C), LOSSES["EQLv2"](num_classes=C)
    logits = torch.tensor(rng.normal(0, 2, (6, C + 2)))
    found = CALIBRATIONS["norcal"].function(logits, seesaw.get_activation, facts, 1.0)
    torch.testing.assert_close(found.sum(1), torch.ones(6).to(found))
    with pytest.raises(UserError, match=r"logn compares .*allowed: none, norcal, logit_adjust"):
        CALIBRATIONS["logn"].function(logits, seesaw.get_activation, facts, 0.0)
    with pytest.raises(UserError, match="products with a background"):
        CALIBRATIONS["fracal"].function(logits[:, 1:], eqlv2.get_activation, facts, 2.0)
    found = CALIBRATIONS["norcal"].function(logits[:, 1:], eqlv2.get_activation, facts, 1.0)
    assert ((found >= 0) & (found <= 1)).all()


def test_wrong_input_is_named_in_one_line(rng):
    facts = known(rng)
    logits = torch.zeros(2, C + 1)
    logits[1, 2] = math.nan
    for name, calibration in CALIBRATIONS.items():
        with pytest.raises(UserError, match="1 of 12 logits are not finite"):
            calibration.function(logits, SOFTMAX, facts, calibration.default)
        text = "logn compares" if name == "logn" else "5 classes, the class statistics of 4"
        with pytest.raises(UserError, match=text):
            calibration.function(torch.zeros(2, 6), SOFTMAX, known(rng, 4), calibration.default)


@pytest.mark.parametrize(
    "method, name, value, text",
    [
        ("norcal", "gamma", -0.1, "gamma is -0.1; allowed: numbers from 0 to 2"),
        ("norcal", "gamma", math.nan, "gamma is nan; allowed"),
        ("norcal", "tau", 1.0, "NorCal has no tau; allowed: gamma"),
        ("logn", "gamma", 1.0, "LogN has no gamma; it has no parameter"),
    ],
)
def test_a_strength_out_of_range_is_refused(method, name, value, text):
    with pytest.raises(UserError, match=text):
        CALIBRATIONS[method].strength(name, value)
