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
    save_config(config, tmp_path)
    again = load_config(tmp_path)
    assert json.dumps(again._cfg_dict) == json.dumps(config._cfg_dict)
    # mmdet tells one scale, a tuple, from a list of them.
    assert again.data.test.pipeline[1].img_scale == config.data.test.pipeline[1].img_scale


@pytest.mark.parametrize("name", [n for n in gol.experiments() if n.startswith("demo/")])
def test_prior_bias_arrives_in_the_built_head(name, demo_data):
    head = gol.build_detector(gol.load_experiment(name, None, demo_data)).roi_head.bbox_head
    classifier = axis_values("classifier")[experiment_entry(name)["axes"]["classifier"]]
    background = 0 if classifier["loss"]["type"] == "DropLoss" else 1
    assert head.fc_cls.out_features == head.num_classes + background
    assert set(head.fc_cls.bias.tolist()) == {classifier["bias"]}
    assert head.fc_cls.weight.unique().item() == pytest.approx(classifier["weight"])


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
