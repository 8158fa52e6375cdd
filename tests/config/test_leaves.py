"""A config.json with a hole is one line, in every verb that reads it."""

import copy
import json
import os

import pytest

import gol
from gol.cli import main
from gol.config.resolve import load_config, read_config
from gol.errors import UserError


@pytest.fixture(scope="module")
def plain():
    overrides = {"precision": "float16", "sampler": "repeat_factor"}
    config = gol.load_experiment("demo/gumbel", overrides, os.devnull)
    return json.loads(json.dumps(config._cfg_dict.to_dict()))


MISSING = object()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("seed", MISSING, "key 'seed' is missing"),
        ("seed", "0", "key 'seed' must be a whole number, not '0'"),
        ("runner.max_epochs", MISSING, "key 'runner.max_epochs' is missing"),
        ("optimizer", {"type": "SGD"}, "key 'optimizer.lr' is missing"),
        ("optimizer_config", {}, "key 'optimizer_config.grad_clip' is missing"),
        ("optimizer_config.grad_clip", [35], "key 'optimizer_config.grad_clip' must be an object"),
        ("data.samples_per_gpu", 0, "key 'data.samples_per_gpu' must be at least 1"),
        ("data.train.dataset", {}, "key 'data.train.ann_file' is missing"),
        ("data.test", [], "key 'data.test' must be an object"),
        ("fp16", [], "key 'fp16' must be an object"),
        ("fp16", None, "key 'fp16' must be an object"),
        ("lr_config", None, "key 'lr_config' must be an object"),
        ("model.backbone", [], "key 'model.backbone' must be an object"),
        ("model.test_cfg.rcnn", {}, "key 'model.test_cfg.rcnn.max_per_img' is missing"),
        ("gol", {}, "key 'gol.axes' is missing"),
        ("gol", [], "key 'gol' must be an object"),
    ],
)
def test_what_every_training_reads_is_there(key, value, words, plain, tmp_path):
    config = copy.deepcopy(plain)
    *place, last = key.split(".")
    part = config
    for name in place:
        part = part[name]
    if value is MISSING:
        del part[last]
    else:
        part[last] = value
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as raised:
        read_config(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}/config.json: {words}")


@pytest.mark.parametrize("content", [{"gol": {}}, {"gol": []}])
def test_a_launch_of_an_empty_config_is_one_line(content, tmp_path, capsys):
    (tmp_path / "config.json").write_text(json.dumps(content))
    assert main(["launch", str(tmp_path), "--cluster", "local"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("scale", "read"), [([], ()), ([[1], 2], ([1], 2)), ([[8, 9]], [(8, 9)]), ([8, 9], (8, 9))]
)
def test_any_image_scale_is_read(scale, read, plain, tmp_path):
    config = copy.deepcopy(plain)
    config["data"]["test"]["pipeline"][1]["img_scale"] = scale
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert load_config(tmp_path).data.test.pipeline[1].img_scale == read
