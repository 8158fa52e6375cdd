"""The gates of se_r50: the published formula, its gradients, the authors' names, and training."""

import pytest
import torch
import torchvision
from test_weights import build_backbone, save
from torch.nn import functional as F

import gol
from gol.cli import main
from gol.config.resolve import python_config
from gol.errors import UserError
from gol.models import APAGate
from gol.models.weights import load_backbone

#: The plain ResNet-50 with gates in GOL.
GATED = ("longtail/apa_gol", {"backbone": "se_r50"})


def gate(channels=32):
    torch.manual_seed(torch.seed())
    made = APAGate(channels, ratio=4).double().eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.uniform_(-1, 1)
        made.uniact.lambda_param.uniform_(0.1, 2)
    return made


def published(gate, x):
    """Squeeze, norm, excitation and (lambda e^(-kappa z) + 1)^(-1 / lambda), from the paper."""
    mean = x.flatten(2).mean(-1)
    centred = mean - mean.mean(-1, keepdim=True)
    z = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    z = z * gate.norm.weight + gate.norm.bias
    z = (z @ gate.excitation[0].weight.T).clamp(min=0) @ gate.excitation[2].weight.T
    lambda_, kappa = gate.uniact.lambda_param, gate.uniact.kappa_param
    return x * ((lambda_ * torch.exp(-kappa * z) + 1) ** (-1 / lambda_))[..., None, None]


def test_it_is_the_published_formula_and_so_are_its_gradients():
    made, x = gate(), torch.randn(3, 32, 5, 7, dtype=torch.float64)
    weight = torch.randn_like(x)
    gradients = []
    for forward in (made, lambda x: published(made, x)):
        inputs = [x.clone().requires_grad_(), *made.parameters()]
        value = forward(inputs[0])
        gradients.append([value, *torch.autograd.grad((value * weight).sum(), inputs)])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("lambda_", "kappa", "expected"),
    [
        (0.0, 1.0, lambda z: torch.exp(-torch.exp(-z))),  # Gumbel, to lambda's least
        (1.0, 1.0, torch.sigmoid),
        (1.0, -1.0, lambda z: torch.sigmoid(-z)),
        (11.0, 4.0, lambda z: (10 * torch.exp(-3.5 * z) + 1) ** -0.1),
    ],
)
def test_lambda_and_kappa_are_kept_in_their_ranges(lambda_, kappa, expected):
    made = gate().uniact
    with torch.no_grad():
        made.lambda_param.fill_(lambda_)
        made.kappa_param.fill_(kappa)
    z = torch.linspace(-3, 3, 50, dtype=torch.float64)
    torch.testing.assert_close(made(z), expected(z), rtol=1e-3, atol=1e-4)


def test_it_starts_in_the_published_ranges_and_drops_only_in_training():
    starts = torch.tensor([[p.item() for p in APAGate(16).uniact.parameters()] for _ in range(200)])
    for values, low in zip(starts.T, (0, -1), strict=True):
        assert low < values.min() < low + 0.1 and low + 0.9 < values.max() < low + 1
    made, x = APAGate(256), torch.ones(1, 256, 2, 2)
    with torch.no_grad():
        made.norm.bias.normal_()
        assert torch.equal(made.eval()(x), made(x))
        assert not torch.equal(made.train()(x), made(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_autocast_the_features_keep_their_dtype(dtype):
    made, x = gate().float(), torch.randn(2, 32, 4, 4)
    with torch.autocast("cpu", dtype):
        found = made(x.to(dtype))
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), made(x), rtol=0.05, atol=0.05)


@pytest.fixture(scope="module")
def se_r50():
    return dict(gol.load_experiment(*GATED).model.backbone)


def authors(state):
    """A classifier's file as torchvision's reference script, which the authors use, writes it."""
    fc = {"fc.weight": torch.ones(1000, 2048), "fc.bias": torch.ones(1000)}
    return {"model": {**state, **fc}, "optimizer": {}, "epoch": 99}


def test_it_takes_every_tensor_of_the_authors_file_and_computes_se_resnet(tmp_path, se_r50):
    torch.manual_seed(torch.seed())
    backbone = build_backbone(se_r50)
    names = torchvision.models.resnet50(weights=None).state_dict().keys()
    state = {key: torch.rand_like(v.float()).to(v) for key, v in backbone.state_dict().items()}
    gates = {key for key in state if ".se." in key}
    assert set(state) - gates == {key for key in names if not key.startswith("fc.")}
    assert {key.split(".se.")[1] for key in gates} == {
        *("norm.weight", "norm.bias", "excitation.0.weight", "excitation.2.weight"),
        *("uniact.lambda_param", "uniact.kappa_param"),
    }
    assert len(gates) == 16 * 6 and state["layer1.0.se.uniact.lambda_param"].shape == (1,)
    load_backbone(backbone, save(tmp_path / "w.pth", authors(state)))
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key]), key
    backbone.eval()
    block, x = backbone.layer2[0], torch.randn(1, 256, 8, 8)
    with torch.no_grad():
        y = F.relu(block.bn1(block.conv1(x)))
        y = block.bn3(block.conv3(F.relu(block.bn2(block.conv2(y)))))
        expected = F.relu(published(block.se, y) + block.downsample(x))
        torch.testing.assert_close(block(x), expected, rtol=1e-4, atol=1e-4)


def test_a_ratio_that_leaves_no_channel_is_refused():
    with pytest.raises(ValueError, match="ratio is 33; allowed: 1 to the 32 channels"):
        APAGate(32, ratio=33)


def test_weights_without_gates_are_refused_by_name(tmp_path, se_r50):
    plain = torchvision.models.resnet50(weights=None).state_dict()
    with pytest.raises(UserError, match=r"missing layer1\.0\.se\.norm\.weight"):
        load_backbone(build_backbone(se_r50), save(tmp_path / "w.pth", plain))


def test_its_file_is_looked_for_and_said_where_to_get(tmp_path, monkeypatch, capsys, se_r50):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    advice = "has no address: get it from https://github.com/kostas1515/AGLU and put it at "
    assert main(["weights", "se_r50"]) == 2
    said = capsys.readouterr().err
    assert advice + str(tmp_path) in said and said.count("\n") == 1
    with pytest.raises(UserError, match=r"no file .* get it from .* name the file by .*--weights"):
        gol.build_detector(gol.load_experiment(*GATED))
    assert main(["weights"]) == 0
    line = next(row for row in capsys.readouterr().out.splitlines() if "se_r50" in row)
    name = line.rpartition("/")[2]
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save(authors(build_backbone(se_r50).state_dict()), tmp_path / "hub/checkpoints" / name)
    assert main(["weights", "se_r50"]) == 0
    assert capsys.readouterr().out.strip().endswith(name)
    config = gol.load_experiment(*GATED)
    with pytest.raises(UserError, match="se_r50 has no weights that mmdet's tools load: name"):
        python_config(config)
    detector = gol.build_detector(config)
    assert any(isinstance(module, APAGate) for module in detector.modules())
