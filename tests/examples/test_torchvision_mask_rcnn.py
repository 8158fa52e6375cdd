"""The torchvision example: real models on small random images."""

import copy

import pytest
import torch

torchvision = pytest.importorskip("torchvision")
C = 4


@pytest.fixture(scope="module")
def example(load):
    return load("torchvision_mask_rcnn")


def small(example):
    """Mask R-CNN with a small backbone and box head."""
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(
        backbone_name="resnet18",
        weights=None,
        norm_layer=torch.nn.BatchNorm2d,
        trainable_layers=5,
    )
    model = MaskRCNN(
        backbone,
        box_head=TwoMLPHead(backbone.out_channels * 7**2, 64),
        box_predictor=FastRCNNPredictor(64, C + 1),
        mask_predictor=MaskRCNNPredictor(backbone.out_channels, 64, C + 1),
        min_size=64,
        max_size=64,
        rpn_post_nms_top_n_train=64,
        rpn_post_nms_top_n_test=64,
        box_batch_size_per_image=32,
        box_score_thresh=1e-5,
    )
    return example.use_gumbel(model)


def batch():
    """Two images with a box of class 1 and one of class C."""
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 64, 64, generator=generator) for _ in range(2)]
    targets = []
    for image in images:
        boxes = torch.tensor([[4.0, 4, 30, 30], [30, 24, 60, 60]])
        masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
            image[:, y1:y2, x1:x2] += mask[y1, x1] * (x1 / 30)
        targets.append({"boxes": boxes, "labels": torch.tensor([1, C]), "masks": masks})
    return images, targets


def record(model):
    """The classifier's logits of each call, in torchvision's order: background first."""
    kept = []
    model.roi_heads.box_predictor.register_forward_hook(lambda _, __, out: kept.append(out[0]))
    return kept


def gumbel(logits):
    return torch.exp(-torch.exp(-logits.double()))


def test_the_classification_loss_is_gumbel_cross_entropy(example):
    """Against the formula in torchvision's own order of the channels."""
    model, logits = small(example).train(), None
    logits = record(model)
    losses = model(*batch())
    assert set(losses) == {
        *("loss_classifier", "loss_box_reg", "loss_mask", "loss_objectness", "loss_rpn_box_reg")
    }
    labels = model.roi_heads.labels
    assert set(labels.tolist()) == {0, 1, C}
    target = torch.nn.functional.one_hot(labels, C + 1).double()
    p = gumbel(logits[0])
    expected = -(target * p.log() + (1 - target) * (1 - p).log()).sum() / len(labels)
    torch.testing.assert_close(losses["loss_classifier"].double(), expected, rtol=1e-5, atol=0)
    losses["loss_classifier"].backward()
    classifier = model.roi_heads.box_predictor.cls_score
    assert (classifier.bias.grad != 0).all()
    assert model.backbone.body.conv1.weight.grad.abs().sum() > 0


@pytest.mark.slow
def test_training_lowers_the_loss(example):
    model = small(example).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    history = []
    for _ in range(10):
        losses = model(*batch())
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append(losses["loss_classifier"].item())
    assert history[-1] < 0.7 * history[0], history
    copy.deepcopy(model)  # as an average of the weights needs it


@pytest.mark.slow
def test_scores_are_gumbel_probabilities(example):
    model = small(example).eval()
    logits = record(model)
    with torch.no_grad():
        torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.1)
        found = model(batch()[0])
    assert all(len(image["scores"]) for image in found)
    assert set(torch.cat([image["labels"] for image in found]).tolist()) <= set(range(1, C + 1))
    for image in found:
        assert image["masks"].shape[0] == len(image["scores"])
        assert (image["scores"].diff() <= 0).all()
        for score, label in zip(image["scores"].double(), image["labels"], strict=True):
            assert (gumbel(logits[0])[:, label] - score).abs().min() < 1e-7
            assert (logits[0].softmax(1)[:, label].double() - score).abs().min() > 1e-7


@pytest.mark.slow
def test_detections_equal_torchvisions_own_for_the_same_scores(example, monkeypatch):
    """Where torchvision is given the Gumbel probabilities as its softmax, it finds the same."""
    from torchvision.models.detection import roi_heads

    model = small(example).eval()
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=0.1)
    with torch.no_grad():
        ours = model(batch()[0])
        monkeypatch.setattr(roi_heads.F, "softmax", lambda x, dim: torch.exp(-torch.exp(-x)))
        model.roi_heads.__class__ = roi_heads.RoIHeads
        theirs = model(batch()[0])
    for mine, other in zip(ours, theirs, strict=True):
        assert torch.equal(mine["labels"], other["labels"])
        for key in ("boxes", "scores", "masks"):
            torch.testing.assert_close(mine[key], other[key], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_call_in_its_docstring(example):
    model = torchvision.models.detection.maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=1204, min_size=64, max_size=64
    )
    model = example.use_gumbel(model).train()
    assert model.roi_heads.loss.num_classes == 1203
    sum(model(*batch()).values()).backward()
    assert model.roi_heads.box_predictor.cls_score.weight.grad.isfinite().all()
