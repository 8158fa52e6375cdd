"""The fractal dimension: known shapes, an oracle that counts cell by cell, LVIS's own file."""

import csv
import json
import math

import numpy as np
import pytest

from gol.calibration import fractal_dimension, fractal_dimensions


def oracle(points):
    """Least squares of log N_G over log G, G = 1 … 64 with G^2 <= m, in plain Python."""
    if len(points) < 4:
        return 1.0
    xs, ys = [], []
    for grid in range(1, 65):
        if grid * grid <= len(points):
            cells = {
                (min(int(x * grid), grid - 1), min(int(y * grid), grid - 1)) for x, y in points
            }
            xs.append(math.log(grid))
            ys.append(math.log(len(cells)))
    x, y = sum(xs) / len(xs), sum(ys) / len(ys)
    slope = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True))
    return max(slope / sum((a - x) ** 2 for a in xs), 1.0)


def test_known_shapes():
    grid = (np.arange(64) + 0.5) / 64
    plane = np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2)
    assert fractal_dimension(plane) == pytest.approx(2)
    line = np.stack([np.linspace(0, 1, 5000), np.full(5000, 0.5)], 1)  # its ends on the border
    assert fractal_dimension(line) == pytest.approx(1)
    assert fractal_dimension(np.full((100, 2), 0.3)) == 1  # a point: below 1 counts as 1
    assert fractal_dimension(plane[:3]) == 1 and fractal_dimension(np.empty((0, 2))) == 1


def test_drawn_samples_are_counted_as_published(rng):
    sizes = rng.integers(0, 400, 12)
    labels = np.repeat(np.arange(12), sizes)
    centres = rng.random((len(labels), 2)) ** rng.uniform(0.3, 3, (len(labels), 1))
    order = rng.permutation(len(labels))
    found = fractal_dimensions(labels[order], centres[order], 12)
    expected = [oracle(centres[labels == label].tolist()) for label in range(12)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert all(1 <= dimension <= 2 for dimension in found)


def test_lvis_annotations_are_counted_as_published(shared_data):
    data = json.loads((shared_data / "lvis_v0.5_val_100.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    points, labels = [], []
    for annotation in data["annotations"]:
        (x, y, w, h), (width, height) = annotation["bbox"], sizes[annotation["image_id"]]
        points.append(((x + w / 2) / width, (y + h / 2) / height))
        labels.append(annotation["category_id"])
    classes = sorted(set(labels))
    labels = np.searchsorted(classes, labels)
    found = fractal_dimensions(labels, np.array(points), len(classes))
    expected = [
        oracle([point for point, label in zip(points, labels, strict=True) if label == each])
        for each in range(len(classes))
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert max(found) > 1.2


def test_the_published_file_obeys_the_rule(shared_facts):
    """Of all LVIS the file alone is here: where there are fewer than four objects it has 1."""
    with open(shared_facts / "lvis_v1_train_fractal_dim.csv") as file:
        dimensions = [float(row["fractal_dimension"]) for row in csv.DictReader(file)]
    counts = json.loads((shared_facts / "lvis_v1_train_cat_stats.json").read_text())
    objects = [entry["instance_count"] for entry in sorted(counts, key=lambda each: each["id"])]
    few = [d for d, m in zip(dimensions, objects, strict=True) if m < 4]
    assert few and set(few) == {1.0} and all(1 <= d <= 2 for d in dimensions)
    # From 4 to 8 objects there are the grids 1 and 2 alone: the slope is log2 of 1 … 4 cells.
    allowed = [max(math.log2(cells), 1) for cells in (1, 2, 3, 4)]
    for dimension, count in zip(dimensions, objects, strict=True):
        if 4 <= count <= 8:
            assert min(abs(dimension - each) for each in allowed) < 1e-6
