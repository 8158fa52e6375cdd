"""One cluster for all tests of this folder, or the reason why there is none."""

import shutil
import tempfile
from pathlib import Path

import pytest
from slurm_cluster import Cluster, missing


@pytest.fixture(scope="session")
def cluster():
    reason = missing()
    if reason:
        pytest.skip(f"no Slurm: {reason}")
    # munge's socket must have a short path.
    folder = Path(tempfile.mkdtemp(prefix="gol-slurm-"))
    started = Cluster(folder)
    try:
        started.start()
        yield started
    finally:
        started.stop()
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """One process runs all tests of this folder: there is one cluster."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("slurm"))
