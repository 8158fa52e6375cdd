"""Every experiment of the original resolves to its hyper-parameters, field by field.

Theirs were read off the original repository's configs (``facts/original.yaml``). Where ours differ,
CORRECTIONS says so by name and with the reason, and nothing else may differ.
"""

import importlib.util
import inspect
import json
from pathlib import Path

import facts
import pytest
import torch
from mmcv import Config

import gol
from gol.config.experiments import experiment
from gol.losses import LOSSES

_SCORED = "ours scores boxes and, where the detector has them, masks after the last epoch"

#: Original's name → field → why ours differs.
CORRECTIONS = {
    "activations/x101_4x4_1x_softmax": {
        "samples_per_gpu": "1 image a GPU where its sigmoid twin has 4: 4 here, as in its name"
    },
    "activations/gumbel/gumbel_r50_4x4_1x_lvis_v05": {
        "evaluation": f"interval 24 of 12; {_SCORED}"
    },
    **{
        f"gol/eql_r50_{name}": {"evaluation": f"boxes only, interval 26 of 24; {_SCORED}"}
        for name in ("4x4_2x", "rfs_4x4_2x")
    },
}

#: Original configs that do not load: what they are here, as the design notes of the facts say.
REPAIRED = {
    "activations/cascade_r50_4x4_1x": "activations/cascade_r50_4x4_1x_softmax",
    "activations/gumbel/gumbel_htc_r101_4x4_1x": "activations/gumbel/gumbel_cascade_r50_4x4_1x",
    "activations/gumbel_htc_r101_4x4_1x": "activations/gumbel/gumbel_cascade_r50_4x4_1x",
    "activations/htc_r101_4x4_1x_softmax": "activations/cascade_r50_4x4_1x_softmax",
}

ORIGINALS = facts.original()


def heads(value):
    return value if isinstance(value, list) else [value]


def only(values):
    """What all values are."""
    first, *others = values
    assert all(value == first for value in others)
    return first


def fields(config):
    """A resolved config in the form of the facts."""
    plain = json.loads(json.dumps(config._cfg_dict))
    model, train = plain["model"], plain["data"]["train"]
    roi_head, dataset = model["roi_head"], train.get("dataset", train)
    boxes, masks = heads(roi_head["bbox_head"]), heads(roi_head.get("mask_head", {}))
    backbone, steps = model["backbone"], dataset["pipeline"]
    shown = ("type", "depth", "groups", "base_width", "embed_dims", "depths")
    load = next(step for step in steps if step["type"] == "LoadAnnotations")
    published = {"v1": "LVISV1Dataset", "v0_5": "LVISV05Dataset"}
    versions = {1203: "v1", 1230: "v0_5"}
    return {
        "detector": model["type"],
        "backbone": {key: backbone[key] for key in shown if key in backbone},
        "pretrained": backbone["init_cfg"]["checkpoint"],
        "num_classes": only(head["num_classes"] for head in [*boxes, *masks] if head),
        "bbox_heads": len(boxes),
        "loss_cls": [head["loss_cls"] for head in boxes],
        "fc_cls_init": [head.get("init_cfg") for head in boxes],
        "cls_predictor": [head.get("cls_predictor_cfg") for head in boxes],
        "reg_class_agnostic": [head["reg_class_agnostic"] for head in boxes],
        "loss_bbox": [head["loss_bbox"] for head in boxes],
        "mask_predictor": only(head.get("predictor_cfg") for head in masks),
        "dataset": published[versions[boxes[0]["num_classes"]]],
        "oversample_thr": train.get("oversample_thr", 0.0),
        "samples_per_gpu": plain["data"]["samples_per_gpu"],
        "poly2mask": load.get("poly2mask", True),
        "train_aug": [step["type"] for step in steps],
        "optimizer": plain["optimizer"],
        "grad_clip": plain["optimizer_config"]["grad_clip"],
        "lr_config": plain["lr_config"],
        "max_epochs": plain["runner"]["max_epochs"],
        "fp16": plain.get("fp16"),
        "evaluation": plain["evaluation"],
        "test": {
            **{key: model["test_cfg"]["rcnn"][key] for key in ("score_thr", "nms", "max_per_img")},
            "rpn": model["test_cfg"]["rpn"],
        },
    }


def test_all_experiments_are_there_by_their_names():
    ours = {
        name for name in gol.experiments() if not name.startswith(("demo/", "longtail/", "own"))
    }
    assert ours == set(ORIGINALS) and len(ours) == 50


def same_loss(ours, theirs):
    """What the original states stands in ours, and what ours adds does not change the loss."""
    if any(ours.get(key) != value for key, value in theirs.items()):
        return False
    if theirs["type"] not in LOSSES:
        return ours.keys() - theirs.keys() <= {"loss_weight"} and ours["loss_weight"] == 1.0
    classes = ours.get("num_classes") or theirs.get("num_classes", 1203)
    accepted = inspect.signature(LOSSES[theirs["type"]]).parameters
    theirs = {"num_classes": classes, **theirs} if "num_classes" in accepted else theirs
    pair = [
        LOSSES[loss["type"]](**{key: value for key, value in loss.items() if key != "type"})
        for loss in (ours, theirs)
    ]
    width = pair[0].get_cls_channels(classes)
    logits, labels = 3 * torch.randn(64, width), torch.randint(0, classes + 1, (64,))
    values = []
    for loss in pair:
        torch.manual_seed(1)  # DropLoss draws
        values.append((loss(logits, labels), loss.get_activation(logits)))
    return all(torch.equal(a, b) for a, b in zip(*values, strict=True))


@pytest.mark.parametrize("name", [name for name, original in ORIGINALS.items() if original])
def test_experiment_equals_the_original(name):
    ours, theirs = fields(gol.load_experiment(name)), ORIGINALS[name]
    assert ours.keys() == theirs.keys()
    differing = {key for key in theirs if key != "loss_cls" and ours[key] != theirs[key]}
    if not all(map(same_loss, ours["loss_cls"], theirs["loss_cls"])):
        differing.add("loss_cls")
    assert differing == set(CORRECTIONS.get(name, {})), {
        key: (ours[key], theirs[key]) for key in differing
    }


def test_augmentation_and_detector_are_those_of_mmdets_lvis_config():
    folder = Path(importlib.util.find_spec("mmdet").origin).parent / ".mim/configs/lvis"
    stock = Config.fromfile(str(folder / "mask_rcnn_r50_fpn_sample1e-3_mstrain_1x_lvis_v1.py"))
    ours = gol.load_experiment("activations/r50_rfs_4x4_1x_softmax")
    steps = ours.data.train.dataset.pipeline
    assert steps[1].pop("poly2mask")  # mmdet's default
    assert steps == stock.data.train.dataset.pipeline
    assert ours.data.test.pipeline == stock.data.test.pipeline
    for head in (ours.model.roi_head.bbox_head, stock.model.roi_head.bbox_head):
        for key in ("init_cfg", "loss_cls"):
            head.pop(key, None)
    assert ours.model == stock.model


V05 = [n for n in gol.experiments() if experiment(n).axes.dataset == "lvis_v0_5"]


@pytest.mark.parametrize("name", V05)
def test_pipelines_of_v05_are_those_of_v1(name):
    """The twin has all axes but the dataset in common, so that nothing but paths may differ."""
    ours, twin = gol.load_experiment(name), gol.load_experiment(name, {"dataset": "lvis_v1"})
    for split in ("train", "val", "test"):
        parts = [getattr(config.data, split) for config in (ours, twin)]
        parts = [part.get("dataset", part).to_dict() for part in parts]
        for key in ("ann_file", "img_prefix"):
            paths = [part.pop(key) for part in parts]
            assert paths[0].replace("lvis_v0_5", "lvis_v1") == paths[1]
        assert parts[0] == parts[1] and parts[0]["pipeline"]


@pytest.mark.parametrize("name, like", REPAIRED.items())
def test_repaired_experiments(name, like):
    """They differ from a sibling that loads in nothing but what their names say."""
    assert not ORIGINALS[name]
    ours, sibling = fields(gol.load_experiment(name)), fields(gol.load_experiment(like))
    differing = {key for key in ours if ours[key] != sibling[key]}
    if "htc" in name:
        assert ours["detector"] == "HybridTaskCascade"
        assert differing == {"detector"}
        assert len(gol.load_experiment(name).model.roi_head.mask_head) == 3  # one a stage
        assert "semantic_head" not in gol.load_experiment(name).model.roi_head
    else:
        assert differing == {"loss_cls"}
        assert ours["loss_cls"][0]["use_sigmoid"]
