"""The recipes of other methods, field by field, as their authors' configs have them."""

import inspect

import pytest
from test_original import fields

import gol
from gol.config.experiments import trained_as
from gol.losses import LOSSES

_NORMED = {"type": "NormedLinear", "tempearture": 20}
_NORMED_MASK = {"type": "NormedConv2d", "tempearture": 20}
_SGD = {"type": "SGD", "lr": 0.02, "momentum": 0.9, "weight_decay": 0.0001}
#: What all have in common: mmdet's LVIS v1 config of Mask R-CNN R-50.
_COMMON = {
    "detector": "MaskRCNN",
    "num_classes": 1203,
    "dataset": "LVISV1Dataset",
    "optimizer": _SGD,
    "oversample_thr": 0.001,
    "max_epochs": 24,
    "grad_clip": None,
    "cls_predictor": [None],
    "mask_predictor": None,
}
_STEPS = {"policy": "step", "warmup": "linear"}
_MMDETS = {**_STEPS, "warmup_iters": 500, "warmup_ratio": 0.001}
RECIPES = {
    "ecm": {
        "cls_predictor": [_NORMED],
        "mask_predictor": _NORMED_MASK,
        "grad_clip": {"max_norm": 5},
        "lr_config": {**_STEPS, "warmup_iters": 10000, "warmup_ratio": 1e-4, "step": [20, 22]},
    },
    "seesaw": {
        "cls_predictor": [_NORMED],
        "mask_predictor": _NORMED_MASK,
        "lr_config": {**_MMDETS, "step": [16, 22]},
    },
    "iif": {"lr_config": {**_MMDETS, "step": [16, 22]}},
    "eqlv2": {"oversample_thr": 0.0, "lr_config": {**_MMDETS, "step": [16, 22]}},
    "eqlv2_1x": {
        "oversample_thr": 0.0,
        "max_epochs": 12,
        "lr_config": {**_MMDETS, "step": [8, 11]},
    },
}
_EQLV2 = {"type": "EQLv2", "gamma": 12, "mu": 0.8, "alpha": 4, "activation": "sigmoid"}
CONSTANTS = {
    "ecm": {"type": "ECM", "activation": "sigmoid"},
    "seesaw": {"type": "Seesaw", "p": 0.8, "q": 2, "eps": 0.01, "activation": "softmax"},
    "iif": {"type": "IIF", "variant": "raw", "activation": "softmax"},
    "eqlv2": _EQLV2,
    "eqlv2_1x": _EQLV2,
}


@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name):
    found = fields(gol.load_experiment(f"longtail/{name}"))
    expected = {**_COMMON, **RECIPES[name]}
    assert {key: found[key] for key in expected} == expected
    (loss,) = found["loss_cls"]
    taken = inspect.signature(LOSSES[loss["type"]]).parameters
    constants = {**{key: taken[key].default for key in taken}, **loss}
    assert {key: constants[key] for key in CONSTANTS[name]} == CONSTANTS[name]
    assert constants["loss_weight"] == 1
    assert found["test"]["score_thr"] == 1e-4 and found["test"]["max_per_img"] == 300
    assert found["test"]["nms"] == {"type": "nms", "iou_threshold": 0.5}


def test_apa_s_recipe_is_gol_s_on_another_backbone():
    names = ("longtail/apa_gol", "gol/droploss_normed_mask_r50_rfs_4x4_2x_gumbel")
    found, gol_s = (gol.load_experiment(name)._cfg_dict.to_dict() for name in names)
    backbone, plain = (each["model"].pop("backbone") for each in (found, gol_s))
    assert {key for key in gol_s if found[key] != gol_s[key]} == {"gol"}  # names and weights
    own = {key for key in backbone if backbone[key] != plain.get(key)}
    assert own == {"type", "plugins", "init_cfg"}
    assert (backbone["type"], backbone["depth"], backbone["frozen_stages"]) == ("AGLUResNet", 50, 1)
    assert backbone["plugins"] == [{"cfg": {"type": "APAGate"}, "position": "after_conv3"}]


def test_recipes_with_fracal():
    """Its detector is Seesaw's with softmax; ours of GOL is calibrated GOL and trains nothing."""
    found = fields(gol.load_experiment("longtail/fracal"))
    expected = {**_COMMON, **RECIPES["seesaw"]}
    assert {key: found[key] for key in expected} == expected
    (loss,) = found["loss_cls"]
    assert loss["type"] == "CrossEntropyLoss" and not loss["use_sigmoid"]
    assert found["test"]["nms"] == {"type": "nms", "iou_threshold": 0.3}
    assert trained_as("longtail/fracal") == "longtail/fracal"
    assert trained_as("longtail/gol_fracal") == "gol/droploss_normed_mask_r50_rfs_4x4_2x_gumbel"
