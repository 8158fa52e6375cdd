"""Packed masks of an annotation file: what is written of them is what was read."""

import copy
import json

import pytest

from gol.data.packing import Packed, annotation_texts, pack, shrink

POLYGONS = {
    "hundredths": [[0.0, 655.35, 1.5, 0.07, 30.01, 2.0]],
    "large": [[655.36, 1.0, 2.0, 70000.25, 5.0, 6.0], [1.5, 2.5, 3.5, 4.5, 0.01, 0.1]],
    "negative": [[-1.5, 2.0, 3.0, 4.0, 5.0, 6.0]],
    "exponents": [[1e-5, 1e16, 2.5e-9, 4.0, 5.0, 1e22]],
    "many digits": [[0.1 + 0.2, 1 / 3, 1.0, 2.0, 3.0, 4.0]],
    "minus zero": [[-0.0, 1.0, 2.0, 3.0, 4.0, 5.0]],
    "whole": [[1, 2, 3, 4, 5, -6]],
    "of both": [[1, 2, 3, 4, 5, 6], [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]],
}
KEPT = {
    "mixed": [[1, 2.0, 3, 4, 5, 6]],
    "too few": [[1.0, 2.0, 3.0, 4.0]],
    "odd": [[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]],
    "too large": [[1 << 40, 2, 3, 4, 5, 6]],
    "not finite": [[float("inf"), 2.0, 3.0, 4.0, 5.0, 6.0]],
    "bool": [[True, False, True, True, True, True]],
    "text": [["1", "2", "3", "4", "5", "6"]],
    "none": [],
    "RLE": {"size": [2, 2], "counts": "04"},
    "nothing": None,
}


def entries(masks):
    return [
        {"id": i, "bbox": [1e-7, 2, 3.5, 0.1], "segmentation": mask, "ignore": 1}
        for i, mask in enumerate(copy.deepcopy(masks))
    ]


def test_packed_masks_are_written_and_stored_like_the_lists():
    masks = [*POLYGONS.values(), KEPT["mixed"], KEPT["RLE"], KEPT["nothing"]] * 300
    lists, shrunk = entries(masks), shrink(entries(masks))
    assert sum(isinstance(entry["segmentation"], Packed) for entry in shrunk) == 300 * len(POLYGONS)
    assert list(annotation_texts([*shrunk, "x"])) == [*map(json.dumps, lists), '"x"']
    wanted = pack([entry["segmentation"] for entry in lists])
    found = pack([entry["segmentation"] for entry in shrunk])
    assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in wanted.items()}


@pytest.mark.parametrize("mask", POLYGONS.values(), ids=POLYGONS)
def test_a_packed_mask_knows_its_numbers_and_its_extent(mask):
    packed = shrink(entries([mask]))[0]["segmentation"]
    assert repr(packed.polygons()) == repr(mask)
    xs = [x for polygon in mask for x in polygon[::2]]
    ys = [y for polygon in mask for y in polygon[1::2]]
    assert packed.outside(5, 7) == max(-min(xs), -min(ys), max(xs) - 5, max(ys) - 7)


@pytest.mark.parametrize("mask", KEPT.values(), ids=KEPT)
def test_what_packing_would_change_stays_as_it_is(mask):
    (found,) = shrink(entries([mask]))
    assert repr(found["segmentation"]) == repr(mask)


def test_entries_of_any_kind_pass():
    odd = [None, 1, "x", [], {"segmentation": 5}]
    assert shrink(copy.deepcopy(odd)) == odd
