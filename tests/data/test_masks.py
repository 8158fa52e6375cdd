"""Polygons and run lengths against pycocotools, on random masks with holes and loose pixels."""

import cv2
import numpy as np
import pytest
from coco_files import to_mask
from pycocotools import mask as coco_mask
from seeds import fresh_seed

from gol.data.masks import compress_rle, mask_area, mask_to_polygons, run_lengths


def random_mask(rng):
    height, width = rng.integers(1, 45, 2)
    noise = rng.random((height, width))
    if rng.random() < 0.5:
        noise = cv2.blur(noise, (5, 5)) - 0.1 * rng.random()
    mask = noise < rng.uniform(0.3, 0.9)
    mask[rng.integers(height), rng.integers(width)] = True
    return mask


@pytest.fixture(params=[fresh_seed()])
def masks(request):
    rng = np.random.default_rng(request.param)
    return [random_mask(rng) for _ in range(200)]


def test_polygons_rasterise_to_the_same_pixels(masks):
    for mask in masks:
        polygons = mask_to_polygons(mask)
        assert (to_mask(polygons, *mask.shape) == mask).all()
        assert mask_area(polygons, *mask.shape) == mask.sum()


def test_polygons_run_along_pixel_edges_without_needless_points(masks):
    for polygon in (p for mask in masks for p in mask_to_polygons(mask)):
        points = np.reshape(polygon, (-1, 2))
        upright = np.diff(points, axis=0, append=points[:1]) == 0
        assert (upright.sum(1) == 1).all()
        assert (upright[:, 0] != np.roll(upright[:, 0], 1)).all()


def test_an_empty_mask_has_no_polygon():
    assert mask_to_polygons(np.zeros((5, 7), bool)) == []


def test_run_lengths_and_areas_of_rle(masks):
    for mask in masks:
        encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        runs = run_lengths(encoded["counts"])
        inside = np.repeat(np.arange(len(runs)) % 2, runs)
        assert (inside.reshape(mask.shape, order="F") == mask).all()
        plain = {"size": list(mask.shape), "counts": runs}
        text = {"size": list(mask.shape), "counts": encoded["counts"].decode()}
        assert compress_rle(plain) == compress_rle(text) == compress_rle(encoded) == text
        assert mask_area(plain, *mask.shape) == mask_area(text, *mask.shape) == mask.sum()


def test_cut_counts_never_pass_as_a_whole_mask(masks):
    """pycocotools decodes truncated counts to rubbish without an error."""
    for mask in masks:
        counts = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"]
        for cut in range(len(counts)):
            try:
                total = sum(run_lengths(counts[:cut]))
            except ValueError:
                continue
            assert total < mask.size


@pytest.mark.parametrize("counts", ["04 ", "é", [3, -1], [2.0, 3], [True, 2], "O"])
def test_malformed_counts(counts):
    with pytest.raises(ValueError, match="counts"):
        run_lengths(counts)
