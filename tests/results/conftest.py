"""Finished runs, made up, as the tests of tables and figures read them."""

import random

import pytest
from run_folders import PUBLISHED, edit_gol, make_run

from gol.config.experiments import experiment
from gol.config.layout import Layout

SOFTMAX, GUMBEL = "activations/r101_4x4_1x_softmax", "activations/gumbel/gumbel_r101_4x4_1x"
SMALL = "activations/gumbel/gumbel_r50_4x4_1x"


@pytest.fixture
def folders(tmp_path):
    """Three experiments, three seeds each, the first scored in two ways; fresh numbers."""
    salt = random.randrange(10**6)
    print("salt", salt)
    two = ("softmax", "sigmoid")
    return [
        make_run(tmp_path / f"{name}{seed}", name, seed, scorings, published, salt=salt)
        for seed in range(3)
        for name, scorings, published in (
            ("sigmoid", two, PUBLISHED),
            ("softmax", ("softmax",), None),
            ("gumbel", ("gumbel",), PUBLISHED),
        )
    ]


@pytest.fixture
def paper(tmp_path):
    """Two experiments of the paper, two seeds each; and what to show of three."""
    runs = []
    for index, name in enumerate((GUMBEL, SMALL)):
        for seed in range(2):
            runs.append(make_run(tmp_path / f"{index}{seed}", f"run{index}", seed))
            entry = experiment(name).model_dump()
            edit_gol(runs[-1], **entry, experiment=name, statement=None)
    layout = Layout(
        {"Small": [SMALL], "Other": [SOFTMAX]},
        {"Softmax against Gumbel": {"M-R101": {"Softmax": SOFTMAX, "Gumbel": GUMBEL}}},
    )
    return runs, layout
