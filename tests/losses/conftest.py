"""Fixtures of the losses' tests."""

import inspect
import random

import pytest
import torch
from loss_oracles import IMAGE_COUNTS, IMAGES, INSTANCE_COUNTS, LAMBDA, C

from gol.groups import frequency_group
from gol.losses import LOSSES
from gol.losses.class_statistics import ClassStatistics


@pytest.fixture
def rng():
    seed = random.randrange(2**31)
    print(f"seed {seed}")
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def statistics(tmp_path):
    """Path of a class-statistics file of C classes."""
    path = tmp_path / "classes.json"
    groups = tuple(map(frequency_group, IMAGE_COUNTS))
    names = tuple(f"class {i}" for i in range(C))
    ids = tuple(range(1, C + 1))
    counts = (IMAGE_COUNTS, INSTANCE_COUNTS, IMAGES, 1000)
    ClassStatistics(ids, names, groups, *counts).save(path)
    return path


@pytest.fixture
def build(statistics):
    """Builds a loss of C classes by its registered name."""

    def build(name, **kwargs):
        if name in ("EQL", "DropLoss"):
            kwargs = {"lambda_": LAMBDA, **kwargs}
        if name == "Federated":  # fewer than the classes, so that it leaves some out
            kwargs = {"sampled_classes": 3, **kwargs}
        kwargs = {"class_statistics": statistics, **kwargs}
        asked = inspect.signature(LOSSES[name]).parameters
        if kwargs.get("mode", "paper") != "paper" and "mode" not in asked:
            pytest.skip(f"{name} has one mode")
        kwargs = {key: value for key, value in kwargs.items() if key in asked}
        return LOSSES[name](num_classes=C, **kwargs)

    return build
