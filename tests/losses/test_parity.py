"""The loss classes against their definitions, element by element."""

import math

import pytest
import torch
from loss_oracles import (
    GUMBEL,
    IMAGE_COUNTS,
    LAMBDA,
    MODES,
    C,
    assert_matches,
    batch,
    class_relative,
    normal_paper,
    one_hot,
    sigmoid,
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["GumbelCE", "ClassRelativeActivations"])
@pytest.mark.parametrize(
    ("reduction", "avg_factor"), [("mean", None), ("mean", 17.0), ("sum", None)]
)
def test_gumbel_ce_and_class_relative(name, mode, reduction, avg_factor, build, rng):
    logits, labels, weight = batch(rng, n=40, spread=2)
    oracle = GUMBEL[mode] if name == "GumbelCE" else lambda x, t: class_relative(x, t, mode)
    value, slope = (v.double() for v in oracle(logits.detach(), one_hot(logits, labels)))
    rows = (weight * (labels >= 0)).double()[:, None]
    divisor = avg_factor or (value.numel() if reduction == "mean" else 1)
    total = (value * rows).sum() / divisor
    limit = math.inf if mode != "paper" else {"GumbelCE": 20, "ClassRelativeActivations": 25}[name]
    inside = float(total <= limit)

    loss = build(name, mode=mode, reduction=reduction, loss_weight=0.5)
    computed = loss(logits, labels, weight, avg_factor=avg_factor)
    derivative = 0.5 * slope * rows / divisor * inside
    assert_matches(computed, logits, 0.5 * total.clamp(max=limit), derivative)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("use_classif", ["gumbel", "sigmoid", "normal", "cls_rel"])
@pytest.mark.parametrize("name", ["EQL", "DropLoss"])
def test_eql_and_droploss(name, use_classif, mode, build, rng):
    logits, labels, weight = batch(rng, n=50, channels=C)
    seed = torch.initial_seed() % 2**31 + int(labels.sum())
    torch.manual_seed(seed)
    computed = build(name, use_classif=use_classif, mode=mode, loss_weight=2.0)(
        logits, labels, weight, avg_factor=3.0
    )
    torch.manual_seed(seed)
    draw = torch.rand(50, C)

    oracles = {"sigmoid": sigmoid, "normal": normal_paper, "gumbel": GUMBEL[mode]}
    oracle = oracles.get(use_classif, lambda x, t: class_relative(x, t, mode))
    value, slope = (v.double() for v in oracle(logits.detach(), one_hot(logits, labels)))
    rare = [count / 1000 < LAMBDA for count in IMAGE_COUNTS]
    foreground = [label for label in labels.tolist() if 0 <= label < C]
    ratio = sum(rare[label] for label in foreground) / len(foreground)
    keep = torch.ones(50, C, dtype=torch.float64)
    for i, label in enumerate(labels.tolist()):
        for c in range(C):
            if 0 <= label < C:
                keep[i, c] = not (rare[c] and c != label)
            elif name == "DropLoss" and rare[c] and draw[i, c] > ratio:
                keep[i, c] = 0
    factor = keep * (weight * (labels >= 0)).double()[:, None] * 2 / 50
    assert_matches(computed, logits, (value * factor).sum(), slope * factor)


def test_droploss_drops_background_negatives_at_the_share_of_frequent_labels(build):
    """Three of four foreground labels are rare, so one background negative in four goes."""
    labels = torch.tensor([1, 2, 6, 0] + [C] * 4000)
    logits = torch.zeros(len(labels), C)
    loss = build("DropLoss", use_classif="sigmoid")(logits, labels, reduction_override="none")
    dropped = (loss[4:] == 0).double().mean(0)
    assert dropped[[0, 3, 4, 5]].max() == 0
    assert (dropped[[1, 2, 6]] - 0.25).abs().max() < 0.05  # 7 standard deviations


def test_droploss_without_foreground_drops_nothing(build):
    labels, logits = torch.full((30,), C), torch.zeros(30, C)
    loss = build("DropLoss", use_classif="sigmoid")(logits, labels)
    assert loss.item() == pytest.approx(C * math.log(2), rel=1e-6)


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
@pytest.mark.parametrize("avg_factor", [None, 0.0, 5.0, 40])
def test_reduction_equals_mmdet(reduction, avg_factor, rng):
    from gol import compat

    compat.apply()
    from mmdet.models.losses.utils import weight_reduce_loss

    from gol.losses.base import reduce_rows

    loss, weight = torch.rand(9, 5, generator=rng), torch.rand(9, generator=rng)
    matrix = weight[:, None].repeat(1, 5)
    if reduction == "sum" and avg_factor is not None:
        for function, rows in ((reduce_rows, weight), (weight_reduce_loss, matrix)):
            with pytest.raises(ValueError, match="avg_factor"):
                function(loss, rows, reduction, avg_factor)
        return
    expected = weight_reduce_loss(loss, matrix, reduction, avg_factor)
    torch.testing.assert_close(reduce_rows(loss, weight, reduction, avg_factor), expected)
