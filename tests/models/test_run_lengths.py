"""Masks encoded without being drawn: mmdet's pixels, whatever the masks and the boxes."""

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

import gol.models  # noqa: F401  (makes mmdet importable)
from gol.models.run_lengths import encode

VALUES = {
    "smooth": lambda rng, shape: _smooth(rng, shape),
    "noise": lambda rng, shape: rng.uniform(0, 1, shape),
    "0 and 1": lambda rng, shape: rng.integers(0, 2, shape),
    "saturated": lambda rng, shape: 1 / (1 + np.exp(np.clip(rng.normal(0, 60, shape), -80, 80))),
    "threshold": lambda rng, shape: np.full(shape, 0.5),
    "an ulp around it": lambda rng, shape: 0.5 + rng.integers(-3, 4, shape) * 2.0**-24,
    "quarters": lambda rng, shape: rng.integers(0, 5, shape) / 4,
    "not a number": lambda rng, shape: np.where(rng.uniform(0, 1, shape) < 0.01, np.nan, 0.9),
}
BOXES = {
    "any": lambda rng, boxes, size: boxes,
    "whole pixels": lambda rng, boxes, size: np.round(boxes),
    "half pixels": lambda rng, boxes, size: np.floor(boxes) + 0.5,
    "the whole image": lambda rng, boxes, size: boxes * 0 + [0, 0, size[1], size[0]],
    "beyond the image": lambda rng, boxes, size: boxes + rng.normal(0, 30, boxes.shape),
    "below a pixel": lambda rng, boxes, size: _sized(boxes, 10 ** rng.uniform(-38, 0, (8, 2))),
    "no size": lambda rng, boxes, size: _sized(boxes, rng.integers(0, 2, (8, 2)) * 9),
    "inverted": lambda rng, boxes, size: _sized(boxes, -rng.uniform(0, 9, (8, 2))),
}


def _smooth(rng, shape):
    coarse = torch.from_numpy(rng.normal(0, 4, (shape[0], 1, 5, 5)))
    fine = torch.nn.functional.interpolate(coarse, shape[1:], mode="bicubic")
    return fine[:, 0].sigmoid().numpy()


def _sized(boxes, size):
    return np.concatenate([boxes[:, :2], boxes[:, :2] + size], 1)


def _boxes(rng, count, size):
    """Boxes of all sizes, some at the image's edge."""
    centre = rng.uniform(0, 1, (count, 2)) * size[::-1]
    half = np.exp(rng.normal(-2, 1, (count, 2))) * size[::-1]
    boxes = np.concatenate([centre - half, centre + half], 1)
    return np.clip(boxes, 0, [size[1], size[0]] * 2)


def by_mmdet(mask, box, size, threshold):
    """The RLE of one mask (R, C) as mmdet and pycocotools make it; None where mmdet fails."""
    from mmdet.models.roi_heads.mask_heads import fcn_mask_head

    arrays = torch.from_numpy(mask)[None, None], torch.from_numpy(box)[None]
    try:
        values, place = fcn_mask_head._do_paste_mask(*arrays, *size, skip_empty=True)
    except RuntimeError:
        return None
    image = torch.zeros(1, *size, dtype=torch.bool)
    image[(torch.tensor([0]), *place)] = values >= threshold
    rle = coco_mask.encode(np.asfortranarray(image[0].numpy().astype(np.uint8)))
    return {"size": list(size), "counts": rle["counts"].decode()}


@pytest.mark.parametrize("boxes", BOXES)
@pytest.mark.parametrize("values", VALUES)
def test_the_run_lengths_are_mmdets(values, boxes, rng):
    """Float32 decides single pixels where a value is next to the threshold."""
    size = tuple(np.exp(rng.uniform(0, 6, 2)).astype(int).tolist())
    shape = [(28, 28), (14, 14), (7, 20), (56, 56)][rng.integers(4)]
    threshold = float(rng.choice([0.5, 0.5, 0.3, 0.0, 1.0]))
    masks = VALUES[values](rng, (8, *shape)).astype(np.float32)
    places = BOXES[boxes](rng, _boxes(rng, 8, size), size).astype(np.float32)
    found = encode(masks, places, size, threshold)
    for mask, box, ours in zip(masks, places, found, strict=True):
        expected = by_mmdet(mask, box, size, threshold)
        if expected is None:  # a box outside the image
            expected = {"size": list(size), "counts": ours["counts"]}
            assert coco_mask.area(ours) == 0
        assert ours == expected, (box, size, threshold)


def test_a_mask_of_the_whole_picture_of_a_camera(rng):
    """Rows and columns in the thousands, where a float32 has few digits left below the pixel."""
    size = (2160, 3840)
    masks = np.concatenate([VALUES[name](rng, (1, 28, 28)) for name in ("smooth", "noise")])
    boxes = np.array([[0, 0, 3840, 2160], [0.3, 1.7, 3838.9, 2159.2]], np.float32)
    found = encode(masks.astype(np.float32), boxes, size)
    for mask, box, ours in zip(masks.astype(np.float32), boxes, found, strict=True):
        assert ours == by_mmdet(mask, box, size, 0.5)


def test_many_masks_are_encoded_as_each_alone(rng):
    """They are encoded in groups, and one that fills the image ends where the next begins."""
    size, masks = (400, 500), VALUES["smooth"](rng, (150, 28, 28)).astype(np.float32)
    boxes = _boxes(rng, 150, size).astype(np.float32)
    masks[::7], boxes[::7] = 1, (-9, -9, 509, 409)
    boxes[3::11, 2:] = boxes[3::11, :2]
    boxes[5::50] = np.nan
    found = encode(masks, boxes, size)
    assert found == [encode(masks[i : i + 1], boxes[i : i + 1], size)[0] for i in range(150)]
    assert coco_mask.area(found[7]) == 400 * 500 and coco_mask.area(found[5]) == 0


def test_no_masks():
    assert encode(np.zeros((0, 28, 28), np.float32), np.zeros((0, 4), np.float32), (4, 5)) == []
