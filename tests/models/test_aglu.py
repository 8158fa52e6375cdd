"""AGLU: the published formula and its gradients at every lambda, and the backbone made of it."""

import copy

import pytest
import torch
from test_gates import authors, published
from test_weights import build_backbone, save

import gol
from gol.models.aglu import AGLU, AGLUBottleneck
from gol.models.weights import load_backbone


def activation(lambda_, kappa, dtype=torch.float32):
    made = AGLU().to(dtype)
    with torch.no_grad():
        made.lambda_param.fill_(lambda_)
        made.kappa_param.fill_(kappa)
    return made


def formula(made, x):
    """z (lambda e^(-kappa z) + 1)^(-1 / lambda), from the paper, in float64."""
    x, lambda_, kappa = (v.double() for v in (x, made.lambda_param, made.kappa_param))
    return x * torch.exp(-torch.log1p(lambda_ * torch.exp(-kappa * x)) / lambda_)


def gradients(value, weight, made, x):
    return torch.autograd.grad((value * weight).sum(), [x, *made.parameters()])


@pytest.mark.parametrize("lambda_", [2e-4, 1e-3, 0.03, 0.5, 1.0, 4.0])
@pytest.mark.parametrize("kappa", [0.3, 1.0, 1.3, -0.7])
def test_it_is_the_published_formula_and_so_are_its_gradients(lambda_, kappa):
    torch.manual_seed(torch.seed())
    made, x = activation(lambda_, kappa), (3 * torch.randn(2000)).requires_grad_()
    weight = torch.randn(2000)
    found = made(x)
    torch.testing.assert_close(found.double(), formula(made, x), rtol=2e-5, atol=2e-6)
    expected = gradients(formula(made, x), weight.double(), made, x)
    for one, other in zip(gradients(found, weight, made, x), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=2e-3, atol=2e-4)


@pytest.mark.parametrize("lambda_", [2e-4, 0.02, 0.8])
def test_gradcheck(lambda_):
    made = activation(lambda_, 1.1, torch.float64)
    x = torch.linspace(-2, 3, 23, dtype=torch.float64, requires_grad=True)

    def function(x, lambda_param, kappa_param):
        made.__dict__["_parameters"].update(lambda_param=lambda_param, kappa_param=kappa_param)
        return made(x)

    assert torch.autograd.gradcheck(function, (x, *made.parameters()), eps=1e-7, atol=1e-4)


@pytest.mark.parametrize("value", [-1e4, -500.0, -90.0, 0.0, 90.0, 1e4])
@pytest.mark.parametrize("lambda_", [0.0, 1e-4, 1.0])
def test_extremes_are_finite(value, lambda_):
    made, x = activation(lambda_, 1.2), torch.full((3,), value, requires_grad=True)
    found = made(x)
    assert found.isfinite().all() and (value < 0 or torch.equal(found, x.detach()) or value == 0)
    assert all(g.isfinite().all() for g in gradients(found, torch.ones(3), made, x))


def test_below_its_least_lambda_has_no_gradient():
    made, x = activation(0.0, 1.2), torch.randn(5, requires_grad=True)
    assert made(x).sum().backward() is None and made.lambda_param.grad == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_widened_and_kept(dtype):
    made, x = activation(0.4, 1.1), torch.randn(100)
    with torch.autocast("cpu", dtype):
        found = made(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), made(x), rtol=0.02, atol=0.02)


def test_it_starts_in_the_published_ranges():
    starts = torch.tensor([[p.item() for p in AGLU().parameters()] for _ in range(300)])
    for values, low, high in zip(starts.T, (0, 1), (1, 1.3), strict=True):
        part = 0.1 * (high - low)
        assert low <= values.min() < low + part and high - part < values.max() <= high


@pytest.fixture(scope="module")
def backbone():
    torch.manual_seed(torch.seed())
    return build_backbone(dict(gol.load_experiment("longtail/apa_gol").model.backbone))


def test_a_block_is_three_convolutions_with_aglu_and_a_gate(backbone):
    block, x = copy.deepcopy(backbone.layer2[0]).eval(), torch.randn(2, 256, 8, 8)
    assert type(block) is AGLUBottleneck and not hasattr(block, "relu")
    with torch.no_grad():
        y = formula(block.unirect1, block.norm1(block.conv1(x))).float()
        y = formula(block.unirect2, block.norm2(block.conv2(y))).float()
        y = published(block.se, block.norm3(block.conv3(y))) + block.downsample(x)
        torch.testing.assert_close(
            block(x).double(), formula(block.unirect3, y), rtol=1e-4, atol=1e-5
        )
    plain = gradients_of(block, x)
    block.with_cp = True
    for one, other in zip(plain, gradients_of(block, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def gradients_of(block, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(block(x).square().sum(), [x, *block.parameters()])


def test_what_is_not_frozen_learns(backbone):
    made = copy.deepcopy(backbone)
    made.train()
    sum(level.mean() for level in made(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in made.named_parameters():
        frozen = name.startswith(("conv1", "bn1", "layer1"))
        assert (parameter.grad is None) == frozen, name
        assert frozen or parameter.grad.isfinite().all(), name


def test_it_takes_every_tensor_of_the_authors_file(tmp_path, backbone):
    state = {key: torch.rand_like(v.float()).to(v) for key, v in backbone.state_dict().items()}
    learned = {key for key in state if "unirect" in key or key.startswith("relu.")}
    assert len(learned) == 2 * (3 * 16 + 1)
    assert {"relu.kappa_param", "layer4.2.unirect3.lambda_param"} <= learned
    other = build_backbone(dict(gol.load_experiment("longtail/apa_gol").model.backbone))
    load_backbone(other, save(tmp_path / "w.pth", authors(state)))
    for key, value in other.state_dict().items():
        assert torch.equal(value, state[key]), key
