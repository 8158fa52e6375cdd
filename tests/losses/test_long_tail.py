"""The long-tail losses against their formulas in float64, and what they keep in memory."""

import itertools
import json
import math
import random
from functools import partial
from importlib.util import find_spec

import long_tail_oracles as oracles
import pytest
import torch
from loss_oracles import (
    IMAGE_COUNTS,
    C,
    assert_matches,
    batch,
    channels,
    one_hot,
)

from gol.errors import UserError
from gol.losses import LOSSES, Balanced, Federated, Seesaw
from gol.losses.activated import ActivatedLoss, binary_cross_entropy
from gol.losses.class_statistics import ClassStatistics
from gol.losses.iif import VARIANTS

ACTIVATED = [name for name, loss in LOSSES.own.items() if issubclass(loss, ActivatedLoss)]
INDEPENDENT = ("sigmoid", "gumbel")
EXACT = {"gumbel": {"mode": "exact"}}  # whose derivative the formula has


def compare(loss, logits, labels, weight, oracle, avg_factor=None):
    """Compares with ``oracle(logits, labels)`` of the rows that are not ignored."""
    value, slope = torch.zeros_like(logits.double()), torch.zeros_like(logits.double())
    used = labels >= 0
    parts = oracle(logits.detach().double()[used], labels[used])
    rows = weight.double()[used, None]
    value[used], slope[used] = parts[0] * rows, parts[1] * rows
    divisor = (avg_factor or len(labels)) / loss.loss_weight
    computed = loss(logits, labels, weight, avg_factor=avg_factor)
    # A logit that is moved or multiplied is rounded to float32 once more.
    assert_matches(computed, logits, value.sum() / divisor, slope / divisor, rounding=1e-6)


def cases(name, activations, **kwargs):
    return [(name, activation, kwargs) for activation in activations]


@pytest.mark.parametrize("avg_factor", [None, 17.0])
@pytest.mark.parametrize(
    ("name", "activation", "kwargs"),
    [
        *cases("Balanced", ("softmax", *INDEPENDENT)),
        *cases("Balanced", ("softmax", *INDEPENDENT), tau=0.5),
        *cases("ECM", ("sigmoid",)),
        *cases("Focal", INDEPENDENT, average="all"),
        *cases("Focal", INDEPENDENT, average="all", alpha=0.4, gamma=1.5),
        *cases("ClassBalanced", ("softmax", *INDEPENDENT)),
        *cases("ClassBalanced", ("softmax",), beta=0.9, mean_over="classes"),
        *[case for v in VARIANTS for case in cases("IIF", ("softmax",), variant=v)],
        *[case for v in VARIANTS for case in cases("IIF", ("softmax",), variant=f"{v}_obj")],
    ],
)
def test_losses_without_memory(name, activation, kwargs, avg_factor, build, rng):
    extra = {**EXACT.get(activation, {}), **kwargs}
    loss = build(name, activation=activation, loss_weight=0.5, **extra)
    k = loss.get_cls_channels(C)
    logits, labels, weight = batch(rng, n=40, spread=1.5, channels=k)
    formula = getattr(oracles, {"ClassBalanced": "class_balanced"}.get(name, name.lower()))
    given = {key: value for key, value in kwargs.items() if key != "average"}
    given |= {} if name in ("ECM", "IIF") else {"activation": activation}
    compare(loss, logits, labels, weight, partial(formula, **given), avg_factor)


@pytest.mark.parametrize("avg_factor", [None, 17.0])
@pytest.mark.parametrize("activation", INDEPENDENT)
def test_focal_divides_by_the_regions_with_an_object(activation, avg_factor, build, rng):
    loss = build("Focal", activation=activation, loss_weight=0.5, **EXACT.get(activation, {}))
    logits, labels, weight = batch(rng, n=40, spread=1.5, channels=C)
    weight[labels == 3] = 0
    objects = int(((labels >= 0) & (labels < C) & (weight > 0)).sum())
    assert 0 < objects < 40
    computed = loss(logits, labels, weight, avg_factor=avg_factor)
    total = loss(logits, labels, weight, reduction_override="sum")
    torch.testing.assert_close(computed, total / objects, rtol=1e-6, atol=0)
    background = torch.full_like(labels, C)
    computed = loss(logits, background, weight, avg_factor=avg_factor)
    total = loss(logits, background, weight, reduction_override="sum")
    torch.testing.assert_close(computed, total, rtol=1e-6, atol=0)


@pytest.mark.parametrize("kwargs", [{}, {"p": 0.5, "q": 1.0, "eps": 0.2}, {"p": 0}, {"q": 0}])
def test_seesaw_counts_the_batch_and_then_moves_the_logits(kwargs, build, rng):
    loss, seen = build("Seesaw", loss_weight=0.5, **kwargs), torch.zeros(C + 1)
    for _ in range(3):
        logits, labels, weight = batch(rng, n=40, spread=1.5, channels=C + 2)
        weight[:4] = 0
        seen += torch.bincount(labels[(labels >= 0) & (weight > 0)], minlength=C + 1)
        compare(loss, logits, labels, weight, partial(oracles.seesaw, seen=seen[:C], **kwargs))
        assert torch.equal(loss.cum_samples, seen.double())


@pytest.mark.parametrize("activation", INDEPENDENT)
def test_eqlv2_weighs_by_the_gradients_of_the_batches_before(activation, build, rng):
    loss = build("EQLv2", activation=activation, loss_weight=0.5, **EXACT.get(activation, {}))
    pull = [torch.zeros(C), torch.zeros(C)]
    for _ in range(3):
        logits, labels, weight = batch(rng, n=40, spread=1, channels=C + 1)
        used = labels >= 0
        weight = (weight > 0.3).float()  # the oracle adds up rows that count or do not
        used &= weight > 0
        *_, added = oracles.eqlv2(logits.detach().double()[used], labels[used], pull, activation)
        compare(
            loss, logits, labels, weight, partial(oracles.eqlv2, pull=pull, activation=activation)
        )
        pull = [total + more for total, more in zip(pull, added, strict=True)]
        for name, expected in zip(loss.counts, pull, strict=True):
            torch.testing.assert_close(getattr(loss, name), expected.double(), rtol=1e-5, atol=0)


@pytest.mark.parametrize("activation", INDEPENDENT)
def test_federated_is_the_sum_over_its_classes(activation, build, rng):
    logits, labels, weight = batch(rng, n=6, channels=C)
    loss = build("Federated", activation=activation, sampled_classes=4, **EXACT.get(activation, {}))
    torch.manual_seed(5)
    kept = loss.kept(one_hot(logits, labels), (labels >= 0).float())
    torch.manual_seed(5)
    entropy = oracles.CROSS_ENTROPY[activation]
    compare(
        loss,
        logits,
        labels,
        weight,
        lambda x, y: [part * kept for part in entropy(x, one_hot(x, y))],
    )


def test_federated_draws_by_the_root_of_the_image_count(statistics):
    """Beside the two labels, and the background, one class: as often as its share says."""
    loss = Federated(sampled_classes=4, num_classes=C, class_statistics=statistics)
    target, weight = one_hot(torch.zeros(4, C), torch.tensor([3, 3, 5, C])), torch.ones(4)
    runs = 4000
    drawn = sum(loss.kept(target, weight).double() for _ in range(runs))
    roots = [0 if c in (3, 5) else math.sqrt(n) for c, n in enumerate(IMAGE_COUNTS)]
    expected = torch.tensor([1 if c in (3, 5) else r / sum(roots) for c, r in enumerate(roots)])
    assert (drawn / runs - expected).abs().max() < 5 * 0.5 / math.sqrt(runs)
    weight[2] = 0  # the only RoI of class 5
    assert sum(loss.kept(target, weight)).item() == 3
    weight[3] = 0  # no background either
    assert sum(loss.kept(target, weight)).item() == 4


def test_adaptive_starts_at_gumbel_and_learns_away_from_it(build, rng):
    """Gradients of lambda and kappa are those of finite differences; lambda comes back from 0."""
    logits, labels, weight = batch(rng, n=40, spread=1.5)
    loss = build("AdaptiveCE", loss_weight=0.5)
    compare(loss, logits, labels, weight, oracles.adaptive)

    loss.double()
    logits = logits.detach().double()
    for lambda_, parameter in itertools.product((0.01, 1.3), (loss.lambda_, loss.kappa)):
        loss.lambda_.data.fill_(lambda_)
        found = []
        for step in (1e-6, -2e-6):
            parameter.data += step
            found.append(loss(logits, labels, weight).item())
        parameter.data += 1e-6
        loss.zero_grad()
        loss(logits, labels, weight).backward()
        assert parameter.grad.item() == pytest.approx((found[0] - found[1]) / 2e-6, rel=1e-4)

    loss.lambda_.data.fill_(-0.5)
    loss.zero_grad()
    loss(logits, labels, weight).backward()
    assert loss.lambda_.item() == pytest.approx(1e-4) and loss.lambda_.grad.item() != 0


def test_adaptive_keeps_lambda_between_forwards_and_in_checkpoints(build, rng):
    """In float64, whose parameters are not copied by a change of precision."""
    logits, labels, weight = batch(rng)
    loss = build("AdaptiveCE", first_lambda=1, first_kappa=2).double()
    assert (loss.activation, loss.lambda_.item(), loss.kappa.item()) == ("apa", 1, 2)
    sum(loss(logits.double(), labels, weight) for _ in range(2)).backward()
    loss.lambda_.data.fill_(-0.5)
    assert loss.state_dict()["lambda_"].item() == pytest.approx(1e-4)


def test_an_activation_without_bound_keeps_loss_and_gradient_finite(rng):
    """Its logarithms and their slopes are infinite where the other one is asked for."""

    class Uniform:
        def log_probability(self, x):
            return x.clamp(0, 1).log()

        def log_complement(self, x):
            return (1 - x.clamp(0, 1)).log()

    target = one_hot(torch.zeros(3, C), torch.tensor([0, 3, C]))
    logits = target.clone().requires_grad_()  # certain, and right
    loss = binary_cross_entropy(Uniform(), logits, target)
    loss.sum().backward()
    assert not loss.any() and logits.grad.isfinite().all()


def test_eqlv2_counts_an_outlier_as_one(build):
    loss = build("EQLv2", activation="gumbel", mode="exact")
    for logit in (-1e4, 0.0):
        logits = torch.full((2, C + 1), logit, requires_grad=True)
        loss(logits, torch.tensor([0, C])).backward()
    assert loss.pos_grad[0] <= 2 * 5 and loss._negative_weight().isfinite().all()


@pytest.mark.parametrize("name", ACTIVATED)
def test_logits_of_ten_thousand_stay_finite(name, build):
    signs = torch.tensor([[1, 1], [-1, -1], [1, -1], [-1, 1]]).repeat(1, C)[:, : channels(name)]
    logits = (1e4 * signs).requires_grad_()
    loss = build(name)
    value = loss(logits, torch.tensor([0, 2, C, 1]))
    value.backward()
    scores = loss.get_activation(logits)
    assert value.isfinite() and logits.grad.isfinite().all() and scores.isfinite().all()
    assert all(tensor.isfinite().all() for tensor in loss.state_dict().values())


@pytest.mark.parametrize("name", ["Seesaw", "EQLv2"])
def test_counts_grow_in_training_alone_and_are_saved(name, build, rng):
    logits, labels, weight = batch(rng, channels=channels(name))
    loss = build(name)
    loss(logits, labels, weight)
    state = {key: value.clone() for key, value in loss.state_dict().items()}
    assert all(value.any() for value in state.values())
    loss.eval()(logits, labels, weight)
    assert all(torch.equal(value, state[key]) for key, value in loss.state_dict().items())
    other = build(name)
    other.load_state_dict(state)
    assert torch.equal(other.eval()(logits, labels), loss(logits, labels))


@pytest.mark.skipif(find_spec("mmdet") is None, reason="without mmdet")
def test_seesaw_equals_mmdets(build, rng):
    """Where both can be asked: one process, every row counting; it goes on from mmdet's counts."""
    from gol import compat

    compat.apply()
    from mmdet.models.losses import SeesawLoss

    theirs, ours = SeesawLoss(num_classes=C, return_dict=False), build("Seesaw")
    for _ in range(3):
        logits = torch.randn(30, C + 2, generator=rng)
        labels = torch.randint(0, C + 1, (30,), generator=rng)
        expected = theirs(logits, labels, torch.ones(30), avg_factor=30)
        torch.testing.assert_close(ours(logits, labels, avg_factor=30), expected)
        torch.testing.assert_close(ours.get_activation(logits), theirs.get_activation(logits))
        ours.load_state_dict(theirs.state_dict())


def without_images(path, everywhere=False):
    """Statistics with a class that has no image, or that is in all of them."""
    content = json.loads(path.read_text())
    content["image_counts"][2] = content["instance_counts"][2] = 0
    if everywhere:
        content["image_counts"][0] = content["images"]
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize(
    "name", [name for name in ACTIVATED if name not in ("Seesaw", "EQLv2", "AdaptiveCE")]
)
def test_a_class_without_images_counts_as_one(name, build, statistics, rng):
    """IMAGE_COUNTS has 1 there, so nothing changes but what Federated draws."""
    logits, labels, _ = batch(rng, channels=channels(name))
    expected = build(name)(logits, labels)
    without_images(statistics)
    computed = build(name)(logits, labels)
    assert computed.isfinite()
    if name != "Balanced":  # whose shares are of instances, of which there were 2
        torch.testing.assert_close(computed, expected)
    if name == "Federated":
        assert not build(name).kept(torch.zeros(1, C), torch.ones(1))[2]


@pytest.mark.parametrize("variant", [name for name in VARIANTS if name != "smooth"])
def test_iif_refuses_a_class_that_is_everywhere(variant, build, statistics):
    without_images(statistics, everywhere=True)
    with pytest.raises(UserError, match=rf"'{variant}' gives the class class 0 \(1200 of 1200\)"):
        build("IIF", variant=variant)
    assert build("IIF", variant="smooth").weight[0] == 1


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        (
            "Seesaw",
            {"activation": "gumbel"},
            "'gumbel' makes no sense: .*compete; allowed: softmax",
        ),
        ("ECM", {"activation": "softmax"}, "makes no sense: its margins .*; allowed: sigmoid"),
        ("IIF", {"activation": "gumbel"}, "makes no sense: .*; allowed: softmax"),
        ("EQLv2", {"activation": "softmax"}, "makes no sense: it balances binary problems"),
        ("Federated", {"activation": "softmax"}, "leave nothing out; allowed: gumbel, sigmoid"),
        ("Focal", {"activation": "softmax"}, "makes no sense: it is a sum over binary problems"),
        ("Balanced", {"activation": "cosine"}, "unknown activation 'cosine'; .*allowed: "),
        (
            "AdaptiveCE",
            {"first_lambda": 0},
            "first_lambda is 0; allowed: finite numbers from 0.0001",
        ),
        ("Balanced", {"tau": -1}, "tau is -1; allowed: finite numbers from 0"),
        ("Balanced", {"tau": math.nan}, "tau is nan; allowed"),
        ("Seesaw", {"eps": 0}, "eps is 0; allowed: finite numbers above 0"),
        ("Seesaw", {"p": math.inf}, "p is inf; allowed"),
        ("EQLv2", {"alpha": -1}, "alpha is -1; allowed"),
        ("Focal", {"alpha": 1.5}, "alpha is 1.5; allowed: from 0 to 1"),
        ("Focal", {"average": "N"}, "average is 'N'; allowed: positives, all"),
        ("Focal", {"gamma": 0.5}, "gamma is 0.5; allowed: finite numbers from 1"),
        ("ClassBalanced", {"mean_over": "N"}, "mean_over is 'N'; allowed: samples, classes"),
        ("ClassBalanced", {"beta": 1}, "beta is 1; allowed: from 0 to below 1"),
        ("IIF", {"variant": "base3"}, "unknown variant 'base3'; .*allowed: .*base2_obj"),
        ("Federated", {"sampled_classes": 0}, "sampled_classes is 0; allowed"),
        ("Federated", {"sampled_classes": 2.7}, "sampled_classes is 2.7; allowed: whole numbers"),
        ("Federated", {"sampled_classes": math.inf}, "sampled_classes is inf; allowed"),
    ],
)
def test_senseless_pairs_and_constants_are_one_line(name, arguments, message, build):
    with pytest.raises(UserError, match=message) as error:
        build(name, **arguments)
    assert "\n" not in str(error.value)


def test_published_counts_of_lvis_make_the_known_weights():
    """ECM's weights as its authors' code gives them; shifts that average out by instance."""
    loss = LOSSES["ECM"]()
    assert loss.weight[:-1].min() > 0.99 and loss.weight[-1].item() == pytest.approx(
        0.315, abs=1e-3
    )
    counts = ClassStatistics.published("v1").instance_counts
    shift = Balanced(activation="sigmoid").shift
    share = torch.tensor(counts).clamp(min=1) / sum(counts)
    torch.testing.assert_close(shift.exp(), 1203 * share, rtol=1e-4, atol=0)


def test_counts_do_not_depend_on_ranks_or_on_the_order_of_micro_batches(rng):
    """One rank with 4 micro-batches, in two orders, and the sums of two ranks with 2 each."""
    from gol.engine.running_statistics import RunningStatistics

    class Two:
        """The other rank's sums, which were made before."""

        other = None

        def all_reduce(self, tensors):
            for tensor, more in zip(tensors, self.other or [], strict=False):
                tensor += more

    batches = [batch(rng, channels=C + 2) for _ in range(4)]

    def iterate(order, ranks):
        loss = Seesaw(num_classes=C)
        loss.cum_samples += 7
        statistics = RunningStatistics(loss, ranks)
        statistics.begin()
        values = {}
        for number in order:
            values[number] = loss(*batches[number]).item()
            statistics.add(1.0)
        sums = [total.clone() for total in statistics.total]
        statistics.end(4)
        return loss.cum_samples, values, sums

    counts, values, _ = iterate(range(4), Two())
    seen = sum(torch.bincount(b[1][(b[1] >= 0) & (b[2] > 0)], minlength=C + 1) for b in batches)
    assert torch.equal(counts, 7 + seen.double())
    order = random.sample(range(4), 4)
    again, others, _ = iterate(order, Two())
    assert torch.equal(again, counts) and others == values
    _, _, sums = iterate([1, 3], Two())
    first = Two()
    first.other = sums
    assert torch.equal(iterate([0, 2], first)[0], counts)
