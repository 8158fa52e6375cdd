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
