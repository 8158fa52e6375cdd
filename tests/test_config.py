"""Every experiment resolves, and what is unknown is refused by name."""

import json

import pytest

import gol
from gol.axes import axis_values, experiment_entry, load_dataset
from gol.config import load_config, save_config
from gol.errors import UserError


@pytest.mark.parametrize("name", gol.experiments())
def test_experiment_resolves_and_survives_its_file(name, tmp_path):
    config = gol.load_experiment(name)
    entry = experiment_entry(name)
    classifier = axis_values("classifier")[entry["axes"]["classifier"]]
    head = config.model.roi_head.bbox_head
    assert head.loss_cls.type == classifier["loss"]["type"]
    assert head.init_cfg.bias == classifier["bias"]
    assert head.num_classes == load_dataset(entry["axes"]["dataset"])["num_classes"]
    save_config(config, tmp_path)
    again = load_config(tmp_path)
    assert json.dumps(again._cfg_dict) == json.dumps(config._cfg_dict)
    # mmdet tells one scale, a tuple, from a list of them.
    assert again.data.train.get("dataset", again.data.train).pipeline[2].img_scale == [
        tuple(scale) for scale in load_dataset(entry["axes"]["dataset"])["image_scales"]
    ]


@pytest.mark.parametrize("name", gol.experiments())
def test_experiment_builds(name, demo_data):
    prepared = demo_data if name.startswith("demo/") else None
    config = gol.load_experiment(name, None, prepared)
    config.gol.weights = None  # no download
    detector = gol.build_detector(config)
    head = detector.roi_head.bbox_head
    background = 0 if config.model.roi_head.bbox_head.loss_cls.type in ("DropLoss", "EQL") else 1
    assert head.fc_cls.out_features == head.num_classes + background
    bias = config.model.roi_head.bbox_head.init_cfg.bias
    assert set(head.fc_cls.bias.tolist()) == {bias}


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


@pytest.mark.parametrize(
    "overrides, words",
    [
        (
            {"classifier": "gumble"},
            "unknown classifier 'gumble'; allowed: sigmoid, softmax, gumbel",
        ),
        ({"backbone": "r51"}, "unknown backbone 'r51'; allowed: "),
        ({"optimizer.lrr": 1}, "unknown key 'lrr' in optimizer .*allowed: type, lr"),
        ({"optimiser.lr": 1}, "unknown key 'optimiser' in the config .*allowed: detector"),
        ({"dataset": "coco"}, "unknown dataset 'coco'; allowed: demo"),
    ],
)
def test_unknown_overrides_are_named(overrides, words):
    with pytest.raises(UserError, match=words):
        gol.load_experiment("demo/gumbel", overrides)


def test_unknown_experiment_lists_the_known():
    with pytest.raises(UserError, match="unknown experiment 'gumbel'; allowed: demo/sigmoid"):
        gol.load_experiment("gumbel")


@pytest.mark.parametrize(
    "text, words",
    [
        ("source: files\ntrain: {}\n", "key 'val' is missing"),
        ("source: ftp\n", "key 'source' must be demo or files"),
        ("source: demo\ndraw: {}\npads: 3\n", "unknown key 'pads'; allowed: source, draw"),
        ("source: demo\ndraw: {}\n", "key 'image_scales' is missing"),
        ("[1, 2]\n", "key 'source' must be"),
        ("a: [", "is no valid YAML"),
    ],
)
def test_bad_dataset_files_are_named(tmp_path, text, words):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=words):
        load_dataset(str(path))
