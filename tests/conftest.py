"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest
import seeds  # noqa: F401  (the first process must draw the seed of the run)

ROOT = Path(__file__).resolve().parent.parent


def _shared(variable: str, default: Path) -> Path:
    path = Path(os.environ.get(variable, default))
    if not path.exists():
        pytest.skip(f"no folder {path.name}/ beside the project (set {variable} to point at it)")
    return path


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with minicoco_lt/ and lvis_v0.5_val_100.json, or skip."""
    return _shared("GOL_TEST_DATA", ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def shared_facts() -> Path:
    """Folder with the published facts (class statistics, results), or skip."""
    return _shared("GOL_TEST_FACTS", ROOT.parent / "shared" / "facts")


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def demo_data(tmp_path_factory) -> Path:
    """A prepared demo of 40 classes, small: 60 train and 24 val images."""
    from gol.config.axes import load_dataset, split_files
    from gol.data.demo.draw import draw_demo
    from gol.data.preprocess import preprocess_dataset

    folder = tmp_path_factory.mktemp("demo")
    draw_demo(folder / "raw", train_images=60, val_images=24)
    dataset = load_dataset("demo")
    files = [file for split in ("train", "val") for file in split_files(dataset, split, folder)]
    preprocess_dataset(*files, folder)
    return folder


@pytest.fixture(scope="session")
def alone(tmp_path_factory, demo_data) -> Path:
    """A training in micro-batches of 2 by one process, to compare those of several ranks with."""
    from rank_processes import prepare

    from gol.engine.train import train

    run = prepare(tmp_path_factory.mktemp("alone") / "run", demo_data)
    train(run, "cpu")
    return run
