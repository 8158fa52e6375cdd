"""Fixtures shared by all tests."""

import os
from pathlib import Path

# The tests' processes share the cores among them; threads of one would wait for each other. NumPy
# reads it when it is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
from filelock import FileLock
from seeds import fresh_seed  # the first process draws the seed of the run

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


@pytest.fixture(params=[fresh_seed()])
def rng(request):
    """A generator; the seed is in the test's id."""
    return np.random.default_rng(request.param)


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT


@pytest.fixture(scope="session")
def made_once(tmp_path_factory):
    """Name, function → the folder of that name, which the function has filled.

    Whichever of pytest-xdist's processes needs it first makes it; all may read it, none may write.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent

    def made_once(name, fill) -> Path:
        folder = base / "shared" / name
        folder.parent.mkdir(exist_ok=True)
        done = folder.with_suffix(".done")
        with FileLock(folder.with_suffix(".lock")):
            if not done.exists():
                folder.mkdir(exist_ok=True)
                fill(folder)
                done.touch()
        return folder

    return made_once


@pytest.fixture(scope="session")
def empty_store(made_once) -> bytes:
    """A fresh MLflow store; making one takes seconds, copying it does not."""
    from gol.results.tracking import create_tracking_store

    folder = made_once("store", lambda folder: create_tracking_store(folder / "mlflow.db"))
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def store(empty_store, tmp_path) -> Path:
    """An empty MLflow store of the test's own."""
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_store)
    return path


@pytest.fixture
def undrawn(monkeypatch):
    """Figures are put together and then written empty, where the test is of something else."""
    monkeypatch.setattr(
        "matplotlib.figure.Figure.savefig", lambda self, path, **_: Path(path).write_bytes(b"")
    )


def _draw(folder, train_images):
    """Draws and prepares a demo of 40 classes with 24 val images."""
    from gol.config.datasets import load_dataset
    from gol.data.demo.draw import draw_demo
    from gol.data.preprocess import preprocess_dataset

    draw_demo(folder / "raw", train_images=train_images, val_images=24)
    dataset = load_dataset("demo")
    files = [file for split in ("train", "val") for file in dataset.files(split, folder)]
    preprocess_dataset(*files, folder)


@pytest.fixture(scope="session")
def demo_data(made_once) -> Path:
    """A prepared demo, small: 60 train images. To be read only."""
    return made_once("demo", lambda folder: _draw(folder, 60))


@pytest.fixture(scope="session")
def tiny_data(made_once) -> Path:
    """The same with 24 train images, where a few iterations are enough."""
    return made_once("tiny", lambda folder: _draw(folder, 24))


@pytest.fixture(scope="session")
def alone(made_once, demo_data) -> Path:
    """A run trained in micro-batches of 2 by one process, without a break. To be read only."""
    from rank_processes import prepare

    from gol.engine.train import train

    return made_once("alone", lambda run: train(prepare(run, demo_data), "cpu"))
