"""A drawn export of a labelling tool, and a random COCO-schema data set."""

import shutil

import numpy as np
import pytest
from coco_files import random_coco
from export_files import draw_truth


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
