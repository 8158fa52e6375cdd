"""A case for tests of the evaluation."""

import pytest
from lvis_oracle import random_dataset, random_detections, write


@pytest.fixture
def small(rng, tmp_path):
    """A random case for tests whose claim holds for any."""
    dataset = random_dataset(rng)
    detections = random_detections(rng, dataset)
    return dataset, detections, write(tmp_path, dataset, detections)
