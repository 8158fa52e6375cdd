"""Training that starts from a whole detector and counts iterations, alone and by two ranks."""

import json

import pytest
import torch
from rank_processes import assert_same_training, losses, prepare, train_ranks, weights

import gol
from gol.engine.train import train
from gol.models.state import load_checkpoint

#: The schedule of own/*, cut short.
OWN = {"schedule": "own", "runner.max_iters": 3, "data.samples_per_gpu": 2, "seed": 5}


@pytest.fixture(scope="module")
def zoo(made_once, tiny_data):
    """A detector in the form of mmdet's zoo."""

    def fill(folder):
        config = gol.load_experiment("demo/softmax", {"seed": 9}, tiny_data)
        meta = {"CLASSES": json.loads((tiny_data / "classes.json").read_text())["names"]}
        content = {"meta": meta, "state_dict": gol.build_detector(config).state_dict()}
        torch.save(content, folder / "zoo.pth")

    return made_once("zoo", fill) / "zoo.pth"


@pytest.fixture(scope="module")
def begun(made_once, tiny_data, zoo):
    """A run of one process. To be read only."""
    settings = {**OWN, "init": str(zoo)}
    return made_once("begun", lambda run: train(prepare(run, tiny_data, **settings), "cpu"))


def test_it_ends_after_so_many_iterations_near_where_it_began(begun, zoo):
    summary = json.loads((begun / "train.json").read_text())
    assert summary["iterations"] == 3 and losses(begun)[-1]["iteration"] == 3
    before, after = load_checkpoint(zoo)["state_dict"], weights(begun)
    name = "neck.fpn_convs.0.conv.weight"
    moved = (after[name] - before[name]).abs().max()
    assert 0 < moved < 1e-3  # another seed's own values are 0.1 away


@pytest.mark.slow
def test_two_ranks_start_from_the_same_weights_and_one_says_so(begun, zoo, tiny_data, tmp_path):
    run = prepare(tmp_path, tiny_data, **OWN, init=str(zoo))
    first, second = train_ranks(2, run)
    assert f"starts from {zoo}" in first and "starts from" not in second
    assert_same_training(run, begun)
    assert losses(run) == losses(begun)
