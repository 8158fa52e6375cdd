"""The detectron2 and mmdet 3 examples, against the stubs in ``stubs.py``."""

import sys
import textwrap

import pytest
import stubs
import torch
from torch.nn import functional as F

import gol

C = 5


def gumbel(logits):
    return torch.exp(-torch.exp(-logits.double()))


def gumbel_bce(logits, labels):
    """Mean over the RoIs of the summed binary cross entropy; the background is class C."""
    target = F.one_hot(labels, C + 1).double()
    p = gumbel(logits)
    return -(target * p.log() + (1 - target) * (1 - p).log()).sum() / len(labels)


def assert_learns(step, parameters):
    """A few steps lower the loss."""
    optimizer = torch.optim.SGD(parameters, lr=0.1)
    history = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = step()
        loss.backward()
        optimizer.step()
        history.append(loss.item())
    assert history[-1] < 0.7 * history[0], history


@pytest.fixture
def output_layers(load, monkeypatch):
    name = "detectron2"
    for part in ("", ".modeling", ".modeling.roi_heads"):
        monkeypatch.setitem(sys.modules, name + part, stubs.module(name + part))
    name = "detectron2.modeling.roi_heads.fast_rcnn"
    stub = stubs.module(name, FastRCNNOutputLayers=stubs.FastRCNNOutputLayers)
    monkeypatch.setitem(sys.modules, name, stub)
    return load("detectron2_head").GumbelOutputLayers


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(12, 8), torch.arange(12) % (C + 1)


@pytest.mark.parametrize("weight", [1.0, 0.5])
def test_detectron2_head(output_layers, batch, weight):
    features, labels = batch
    head = output_layers(8, C, loss_weight={"loss_cls": weight, "loss_box_reg": 3.0})
    assert (head.cls_score.bias == -2).all()
    proposals = [stubs.Instances(labels[:7]), stubs.Instances(labels[7:])]
    logits, deltas = predictions = head(features)
    losses = head.losses(predictions, proposals)
    expected = {
        "loss_cls": weight * gumbel_bce(logits, labels),
        "loss_box_reg": 3 * deltas.abs().mean(),
    }
    assert losses.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(losses[name].double(), value.double(), rtol=1e-5, atol=0)
    scores = head.predict_probs(predictions, proposals)
    assert [len(score) for score in scores] == [7, 5]
    torch.testing.assert_close(torch.cat(scores).double(), gumbel(logits), rtol=1e-5, atol=1e-9)
    assert_learns(lambda: head.losses(head(features), proposals)["loss_cls"], head.parameters())


def test_detectron2_head_without_weights_or_proposals(output_layers):
    """detectron2's own config gives no weight for loss_cls; an image may have no proposals."""
    head = output_layers(8, C, loss_weight={"loss_box_reg": 1.0})
    empty = [stubs.Instances(torch.zeros(0, dtype=torch.long))]
    assert head.losses(head(torch.zeros(0, 8)), empty)["loss_cls"].item() == 0


@pytest.fixture
def mmdet3(load, monkeypatch):
    """The example's module and mmdet 3's registry."""
    models = stubs.Registry()
    monkeypatch.setitem(sys.modules, "mmdet", stubs.module("mmdet"))
    monkeypatch.setitem(
        sys.modules, "mmdet.registry", stubs.module("mmdet.registry", MODELS=models)
    )
    return load("mmdet3_head"), models


def test_mmdet3_head(mmdet3, batch):
    """With the config that the file's docstring gives."""
    module, models = mmdet3
    lines = [line for line in module.__doc__.splitlines() if line.startswith("    ")]
    config = {}
    exec(textwrap.dedent("\n".join(lines)), config)
    assert config["custom_imports"] == {"imports": ["mmdet3_head"]}
    bbox_head = config["model"]["roi_head"]["bbox_head"]
    loss = {key: value for key, value in bbox_head["loss_cls"].items() if key != "_delete_"}
    assert stubs.BBoxHead(models, 8, 80, loss).fc_cls.out_features == 81

    features, labels = batch
    head = stubs.BBoxHead(models, 8, C, {**loss, "num_classes": C})
    torch.nn.init.constant_(head.fc_cls.bias, bbox_head["init_cfg"]["bias"])
    logits = head.fc_cls(features)
    losses = head.loss(logits, labels, torch.ones(12))
    assert losses.keys() == {"loss_cls", "acc_classes"}
    expected = gumbel_bce(logits, labels)
    torch.testing.assert_close(losses["loss_cls"].double(), expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(head.scores(logits).double(), gumbel(logits), rtol=1e-5, atol=1e-9)
    step = lambda: head.loss(head.fc_cls(features), labels, torch.ones(12))["loss_cls"]  # noqa: E731
    assert_learns(step, head.parameters())


def test_mmdet3_registry_has_every_loss(mmdet3):
    assert mmdet3[1].modules == dict(gol.losses.LOSSES.own)
