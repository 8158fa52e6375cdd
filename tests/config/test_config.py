"""Every experiment resolves, and what is unknown is refused by name."""

import json

import pytest
import yaml
from mmcv import Config

import gol
from gol.config.axes import axis_values
from gol.config.datasets import load_dataset
from gol.config.experiments import experiment
from gol.config.resolve import load_config, python_config, save_config
from gol.errors import UserError


@pytest.mark.parametrize("name", gol.experiments())
def test_experiment_resolves_and_survives_its_file(name, tmp_path):
    config = gol.load_experiment(name)
    save_config(config, tmp_path)
    again = load_config(tmp_path)
    assert json.dumps(again._cfg_dict) == json.dumps(config._cfg_dict)
    # mmdet tells one scale, a tuple, from a list of them.
    assert again.data.test.pipeline[1].img_scale == config.data.test.pipeline[1].img_scale


@pytest.mark.parametrize("name", [n for n in gol.experiments() if n.startswith("demo/")])
def test_prior_bias_arrives_in_the_built_head(name, demo_data):
    head = gol.build_detector(gol.load_experiment(name, None, demo_data)).roi_head.bbox_head
    classifier = axis_values("classifier")[experiment(name).axes.classifier]
    spare = {"DropLoss": 0, "EQL": 0, "Federated": 0, "Focal": 0, "Seesaw": 2}
    spare = spare.get(classifier["loss"]["type"], 1)
    assert head.fc_cls.out_features == head.num_classes + spare
    assert [*set(head.fc_cls.bias.tolist())] == [pytest.approx(classifier["bias"] or 0)]
    if classifier["weight"] is None:  # mmdet's own
        assert head.fc_cls.weight.std().item() == pytest.approx(0.01, rel=0.05)
    else:
        assert head.fc_cls.weight.unique().item() == pytest.approx(classifier["weight"])


def test_the_demos_federated_loss_leaves_classes_out(demo_data):
    config = gol.load_experiment("demo/federated", None, demo_data)
    loss = gol.build_detector(config).roi_head.bbox_head.loss_cls
    assert loss.sampled_classes < loss.num_classes


def test_gumbel_and_sigmoid_differ_in_nothing_but_the_classifier():
    first, second = (
        json.loads(json.dumps(gol.load_experiment(f"demo/{name}")._cfg_dict))
        for name in ("gumbel", "sigmoid")
    )
    for config in (first, second):
        head = config["model"]["roi_head"]["bbox_head"]
        del head["loss_cls"], head["init_cfg"], config["gol"]
    assert first == second


def test_overrides_change_axes_and_keys():
    config = gol.load_experiment(
        "demo/gumbel",
        {"classifier": "softmax", "seed": 7, "optimizer.lr": 0.5, "runner.max_epochs": 2},
    )
    assert config.model.roi_head.bbox_head.loss_cls.type == "CrossEntropyLoss"
    assert (config.seed, config.optimizer.lr, config.runner.max_epochs) == (7, 0.5, 2)
    assert config.gol.axes.classifier == "softmax"


def test_published_numbers_are_for_the_experiment_as_published():
    name = "activations/gumbel/gumbel_r50_4x4_1x"
    assert gol.load_experiment(name, {"gol.threads": 2}).gol.compare is None
    for overrides in ({"runner.max_epochs": 1}, {"optimizer.lr": 0.1}, {"classifier": "softmax"}):
        assert gol.load_experiment(name, overrides).gol.compare == name


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            {"classifier": "gumble"},
            "unknown classifier 'gumble'; did you mean 'gumbel'. allowed: gumbel, sigmoid, softmax",
        ),
        ({"backbone": "r51"}, "unknown backbone 'r51'; did you mean 'r50'. allowed: r50"),
        ({"optimizer.lrr": 1}, "unknown key 'lrr' in optimizer; did you mean 'lr'. allowed: lr"),
        ({"optimiser.lr": 1}, "unknown key 'optimiser' in the config; did you mean 'optimizer'"),
        ({"dataset": "coco"}, "unknown dataset 'coco'; allowed: demo"),
        ({"backbone": [1]}, r"unknown backbone '\[1\]'; allowed: "),
        ({"dataset": [1]}, r"unknown dataset '\[1\]'; allowed: "),
        ({"optimizer.lr.x": 1}, "override optimizer.lr.x: optimizer.lr is a float and has no keys"),
        ({"optimizer.lr": float("nan")}, "override optimizer.lr: nan is not made of finite"),
        ({"optimizer": {"lr": [float("inf")]}}, "override optimizer: .* not made of finite"),
        ({"optimizer": {1: 5}}, "override optimizer: .* not made of finite"),
        ({"optimizer": 5}, r"override optimizer: expected keys \(type, lr.*\), not 5"),
        ({"optimizer": None}, "override optimizer: expected keys"),
        ({"optimizer.lr": {"x": 5}}, "override optimizer.lr: expected a value"),
        ({"optimizer": {"lr": {"x": 5}}}, "override optimizer.lr: expected a value"),
        ({1: 5}, "override 1: expected a dotted key"),
        *(({"seed": seed}, "seed is .*; allowed: whole") for seed in ("abc", -1, 1.5, True, None)),
    ],
)
def test_unknown_overrides_are_named(overrides, words):
    with pytest.raises(UserError, match=words):
        gol.load_experiment("demo/gumbel", overrides)


@pytest.mark.parametrize("part", ["htc", "cascade"])
def test_a_key_in_a_list_of_heads_is_refused_briefly(part):
    name = next(name for name in gol.experiments() if part in name)
    with pytest.raises(UserError, match=r"bbox_head is a list and has no keys$"):
        gol.load_experiment(name, {"model.roi_head.bbox_head.num_classes": 3})


def test_a_part_that_may_be_missing_can_be_set_and_left_out():
    for weights in ({"file": "mine.pth"}, None):
        assert gol.load_experiment("demo/gumbel", {"gol.weights": weights}).gol.weights == weights
    name = "activations/gumbel/gumbel_r50_4x4_1x"
    assert gol.load_experiment(name, {"gol.weights": None}).gol.weights is None


def test_unknown_experiment_lists_the_known():
    with pytest.raises(
        UserError,
        match=r"unknown experiment 'gumbel'; did you mean 'own/gumbel'\? allowed: own/gumbel",
    ):
        gol.load_experiment("gumbel")


@pytest.mark.parametrize(
    "text, words",
    [
        ("source: files\ntrain: {}\n", r"key '\w+' is missing"),
        ("source: ftp\n", "key 'source' must be demo or files"),
        (
            "source: demo\ndraw: {}\npads: 3\n",
            "unknown key 'pads'; did you mean 'pad'. allowed: pad",
        ),
        ("source: demo\ndraw: {}\n", "key 'image_scales' is missing"),
        ("[1, 2]\n", "key 'source' must be"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_bad_dataset_files_are_named(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        load_dataset(str(path))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"image_scales": [256, 256]}, "key 'image_scales.0' must be a list, not 256"),
        ({"image_scales": []}, "key 'image_scales' must have at least 1 entries"),
        ({"normalize": 5}, "key 'normalize' must be an object with the keys mean, std"),
        (
            {"normalize": {"mean": [0] * 3, "std": [0] * 3, "to_rgb": True}},
            "key 'normalize.std.0' must be above 0, not 0",
        ),
        ({"pad": 0}, "key 'pad' must be at least 1, not 0"),
        ({"repeat_threshold": float("nan")}, "key 'repeat_threshold' must be (at least|a finite)"),
        ({"rare_frequency": "often"}, "key 'rare_frequency' must be a number, not 'often'"),
        (
            {"train": {"annotations": None, "images": "i"}},
            "key 'train.annotations' must be a text, not None",
        ),
        ({"num_classes": True}, "key 'num_classes' must be"),
        ({"thresholds": [100, 10]}, "key 'thresholds' must be two whole numbers"),
        ({"decode": "no"}, "key 'decode' must be true or false"),
        ({"download": None}, "key 'download' must be a list"),
        (
            {"download": ["train2018"]},
            "unknown download 'train2018'; did you mean 'train2017'. allowed: tr",
        ),
        ({"statistics": "v2"}, "unknown statistics 'v2'; allowed: v1, v0_5"),
        ({"statistics": "v1", "num_classes": None}, "needs the key 'num_classes'"),
    ],
)
def test_bad_values_of_datasets_are_named(tmp_path, change, words):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(axis_values("dataset")["lvis_v1"] | change))
    with pytest.raises(UserError, match=words):
        load_dataset(str(path))


@pytest.mark.parametrize("name", ["demo/gumbel", "activations/gumbel/gumbel_r50_4x4_1x"])
def test_the_printed_config_names_the_file_of_the_weights(name, tmp_path):
    weights = {"_delete_": True, "file": "mine.pth"}
    config = gol.load_experiment(name, {"gol.weights": weights})
    before = json.dumps(config._cfg_dict)
    (tmp_path / "printed.py").write_text(python_config(config))
    printed = Config.fromfile(str(tmp_path / "printed.py"))
    assert printed.model.backbone.init_cfg == {"type": "Pretrained", "checkpoint": "mine.pth"}
    assert json.dumps(config._cfg_dict) == before
