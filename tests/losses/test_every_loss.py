"""What every registered loss must do: degenerate batches, precision, the heads' interface.

Losses of installed packages too: ``pytest tests/losses/test_every_loss.py -k MyLoss``.
"""

import math
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from loss_oracles import IMAGE_COUNTS, IMAGES, MODES, C, batch, channels

from gol.errors import UserError
from gol.losses import LOSSES
from gol.losses.activated import ActivatedLoss

every_loss = pytest.mark.parametrize("name", LOSSES)
ACTIVATED = [name for name, loss in LOSSES.own.items() if issubclass(loss, ActivatedLoss)]
every_mode = pytest.mark.parametrize("mode", MODES)


@every_loss
@every_mode
@pytest.mark.parametrize("n", [0, 12])
@pytest.mark.parametrize("label", ["background", "ignored", "weightless"])
def test_degenerate_batches(name, mode, n, label, build, rng):
    logits = torch.randn(n, channels(name), generator=rng, requires_grad=True)
    labels = torch.full((n,), {"background": C, "ignored": -100, "weightless": 2}[label])
    weight = torch.zeros(n) if label == "weightless" else None
    loss = build(name, mode=mode)(logits, labels, weight, avg_factor=50.0 if n else None)
    loss.backward()
    assert loss.shape == () and logits.grad.isfinite().all()
    if n == 0 or label != "background":
        assert loss.item() == 0 and not logits.grad.any()
    else:
        assert loss.item() > 0 and logits.grad.any()


@every_loss
@every_mode
def test_an_ignored_row_changes_nothing(name, mode, build, rng):
    logits, labels, weight = batch(rng, n=20, channels=channels(name))
    labels[:5] = torch.tensor([-1, -100, 3, 3, 3])
    weight[5] = 0
    ignored = (labels < 0) | (labels == 3) | (weight == 0)
    changed = logits.detach().clone()
    changed[ignored] = 5 - changed[ignored]
    if isinstance(build(name), ActivatedLoss):
        changed[:3] = torch.tensor([math.nan, math.inf, -math.inf])[:, None]
    losses, found = (build(name, mode=mode), build(name, mode=mode)), []
    for loss, x in zip(losses, (logits, changed.requires_grad_()), strict=True):
        torch.manual_seed(1)
        found.append(loss(x, labels, weight, reduction_override="none", ignore_index=3))
        found[-1].sum().backward()
    assert found[0].shape == logits.shape and not found[0][ignored].any()
    assert torch.equal(*found) and torch.equal(logits.grad, changed.grad)
    assert_same_state(*losses)


def assert_same_state(first, second, **tolerance):
    """What two losses have counted, which happens while training alone."""
    state = second.state_dict()
    for key, value in first.state_dict().items():
        torch.testing.assert_close(value.cpu(), state[key].cpu(), **tolerance)
    assert all(getattr(first, name).any() for name in first.counts)


@every_loss
@every_mode
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_and_half_logits_compute_in_float32(name, mode, dtype, build, rng):
    logits, labels, weight = batch(rng, n=20, channels=channels(name))
    half = logits.detach().to(dtype).requires_grad_()
    wide = half.detach().float().requires_grad_()
    loss, other = build(name, mode=mode), build(name, mode=mode)
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=dtype):
        computed = loss(half, labels, weight.to(dtype), avg_factor=20)
        scores = loss.get_activation(half)
    torch.manual_seed(2)
    expected = other(wide, labels, weight.to(dtype).float(), avg_factor=20)
    assert computed.dtype == scores.dtype == torch.float32
    torch.testing.assert_close(computed, expected, rtol=1e-6, atol=0)
    computed.backward()
    expected.backward()
    assert half.grad.dtype == dtype
    torch.testing.assert_close(half.grad, wide.grad.to(dtype), rtol=1e-2, atol=1e-6)
    assert_same_state(loss, other, rtol=1e-6, atol=0)


@every_loss
def test_float64_logits_pass_gradcheck(name, build, rng):
    logits = torch.rand(5, channels(name), generator=rng, dtype=torch.float64) * 6 - 3
    labels = torch.tensor([0, 1, C, -1, 4])
    constant = {"q": 0} if name == "Seesaw" else {}  # its compensation has no gradient

    def compute(x):
        torch.manual_seed(3)  # DropLoss draws
        return build(name, **constant)(x, labels, avg_factor=5)

    assert torch.autograd.gradcheck(compute, logits.requires_grad_())


@every_loss
def test_interface_to_the_heads(name, build):
    loss = build(name)
    assert loss.custom_cls_channels and loss.custom_activation and loss.custom_accuracy
    assert loss.get_cls_channels(C) == channels(name)
    kept = {*loss.counts, *dict(loss.named_parameters())}
    assert set(loss.state_dict()) == kept, "a key would break the original's checkpoints"
    assert all(not buffer.is_cuda for buffer in loss.buffers())
    with pytest.raises(UserError, match="80"):
        loss.get_cls_channels(80)


def plain_scores(name, x):
    """Scores of the K channels of float64 logits."""
    if name == "ClassRelativeActivations":
        cdf = torch.distributions.Normal(0, 1).cdf(x)
        return torch.where(torch.tensor([*IMAGE_COUNTS, 0]) > 100, cdf, plain_scores("", x))
    if name == "Seesaw":
        sides = x[:, C:].softmax(1)
        return torch.cat([x[:, :C].softmax(1) * sides[:, :1], sides[:, 1:]], 1)
    if name in ("EQLv2", "ECM"):
        p = 1 / (1 + (-x).exp())
        return torch.cat([p[:, :C] * (1 - p[:, C:]), p[:, C:]], 1)
    if name == "AdaptiveCE":
        return (1e-4 * (-x).exp() + 1) ** -1e4
    if name == "IIF":
        return (x * torch.tensor([math.log(IMAGES / n) for n in IMAGE_COUNTS] + [1])).softmax(1)
    if name in ("Balanced", "ClassBalanced"):
        return x.softmax(1)
    return x.sigmoid() if name in ("Federated", "Focal") else torch.exp(-torch.exp(-x))


@every_loss
def test_scores_are_probabilities_of_unclamped_logits(name, build, rng):
    logits = torch.randn(6, channels(name), generator=rng) * 5
    scores = build(name).get_activation(logits)
    expected = plain_scores(name, logits.double())
    if channels(name) == C:
        expected = torch.cat([expected, torch.zeros(6, 1)], dim=1)
    if name in LOSSES.others:  # whose activation only they know
        assert scores.shape == (6, C + 1) and (scores >= 0).all() and (scores <= 1).all()
        return
    atol = 1e-7 if name in ("IIF", "EQLv2", "ECM") else 1e-15  # of the float32 product
    torch.testing.assert_close(scores.double(), expected, rtol=1e-6, atol=atol)


@pytest.mark.parametrize("name", ["EQL", "DropLoss"])
@pytest.mark.parametrize("use_classif", ["gumbel", "sigmoid", "normal", "cls_rel"])
def test_scores_of_each_classifier(name, use_classif, build, rng):
    logits = torch.randn(6, C, generator=rng, dtype=torch.float64) * 3
    gumbel, cdf = torch.exp(-torch.exp(-logits)), torch.distributions.Normal(0, 1).cdf(logits)
    relative = torch.where(torch.tensor(IMAGE_COUNTS) > 100, cdf, gumbel)
    expected = {"gumbel": gumbel, "sigmoid": logits.sigmoid(), "normal": cdf, "cls_rel": relative}
    scores = build(name, use_classif=use_classif).get_activation(logits)
    assert not scores[:, C].any()
    torch.testing.assert_close(scores[:, :C], expected[use_classif], rtol=1e-6, atol=1e-12)


@every_loss
def test_accuracy(name, build):
    """Right, wrong, background that is right (where it can be), ignored."""
    k = channels(name)
    logits = torch.nn.functional.one_hot(torch.tensor([3, 1, k - 1, 3]), k).float()
    labels = torch.tensor([3, 2, C, -1])
    everything = name == "ClassRelativeActivations"
    accuracy = build(name).get_accuracy(logits, labels)
    assert list(accuracy) == ["acc_classes"]
    assert accuracy["acc_classes"].item() == pytest.approx(200 / 3 if everything else 50)
    assert build(name).get_accuracy(logits[:0], labels[:0])["acc_classes"].item() == 0
    if not everything:
        assert build(name).get_accuracy(logits[2:], labels[2:])["acc_classes"].item() == 0


@every_loss
@every_mode
def test_on_the_gpu(name, mode, build, rng):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    logits, labels, weight = batch(rng, n=30, channels=channels(name))
    kwargs = {"use_classif": "sigmoid"} if name == "DropLoss" else {"sampled_classes": C + 1}
    labels[labels == C] = 0  # the draws of DropLoss, and of Federated, differ between devices
    loss = build(name, mode=mode, **kwargs)
    loss(logits, labels, weight, avg_factor=30).backward()
    remote = logits.detach().cuda().requires_grad_()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        remote.grad, other = None, build(name, mode=mode, **kwargs).cuda()
        with torch.autocast("cuda", dtype=dtype, enabled=dtype != torch.float32):
            other(remote, labels.cuda(), weight.cuda(), avg_factor=30).backward()
        torch.testing.assert_close(remote.grad.cpu(), logits.grad, rtol=1e-4, atol=1e-6)
        assert_same_state(loss, other, rtol=1e-4, atol=1e-6)


@pytest.mark.skipif(find_spec("mmdet") is None, reason="without mmdet")
@pytest.mark.parametrize("name", ["Seesaw", "EQLv2"])
def test_the_gpu_check_agrees_with_itself_on_the_cpu(name, monkeypatch):
    """Losses that count: a second call of the same one gives another value."""
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "gpu")
    import numerics

    assert numerics._loss(name, torch.bfloat16, "cpu") < 1e-4


@every_loss
def test_a_label_beyond_the_channels_is_an_error(name, build):
    with pytest.raises(RuntimeError, match="out of bounds"):
        build(name)(torch.zeros(2, channels(name)), torch.tensor([0, C + 2]))


@pytest.mark.parametrize("name", ACTIVATED)
@pytest.mark.parametrize("more", [-1, 1])
def test_another_number_of_logits_is_an_error(name, more, build):
    k = channels(name)
    with pytest.raises(UserError, match=f"{k + more} logits per region; allowed: {k} for {C} cl"):
        build(name)(torch.zeros(2, k + more), torch.tensor([0, C]))
