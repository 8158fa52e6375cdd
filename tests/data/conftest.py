"""A drawn export of a labelling tool, and a random COCO-schema data set."""

import json
import shutil

import numpy as np
import pytest
from coco_files import random_coco
from export_files import draw_truth
from seeds import fresh_seed

from gol.data.demo.draw import draw_demo


@pytest.fixture(scope="session", params=[fresh_seed(10**6)])
def full_demo(request, made_once):
    """The demo at its default size with a random seed: (folder, seed, summary); to be read only."""

    def draw(folder):
        summary = draw_demo(folder / "raw", seed=request.param)
        (folder / "summary.json").write_text(json.dumps(summary))

    folder = made_once(f"full-demo-{request.param}", draw)
    return folder / "raw", request.param, json.loads((folder / "summary.json").read_text())


@pytest.fixture(scope="module")
def drawn(made_once):
    """The folder of the drawn images; to be read only."""
    return made_once("exports", lambda folder: draw_truth(np.random.default_rng(7), folder))


@pytest.fixture
def truth(drawn, tmp_path):
    """Images in tmp_path/export, and what is on them."""
    shutil.copytree(drawn, tmp_path / "export")
    return draw_truth(np.random.default_rng(7), tmp_path / "again")


@pytest.fixture
def folder(tmp_path, truth):
    """The folder of an export, with the images of ``truth``."""
    return tmp_path / "export"


@pytest.fixture
def coco(rng, tmp_path):
    """A random COCO-schema data set: {split: data}, written by ``run``."""
    return {
        "train": random_coco(rng, tmp_path / "train", images=8),
        "val": random_coco(rng, tmp_path / "val", first_id=101),
    }
