"""Fixtures of the tests that log to MLflow."""

import pytest

from gol.results.tracking import create_tracking_store


@pytest.fixture(scope="module")
def empty_store(made_once):
    """A fresh store; making one takes seconds, copying it does not."""
    folder = made_once("store", lambda folder: create_tracking_store(folder / "mlflow.db"))
    return (folder / "mlflow.db").read_bytes()


@pytest.fixture
def store(empty_store, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(empty_store)
    return path
