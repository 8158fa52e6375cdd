"""Run-length masks against mmdet's bitmaps, through random chains of transforms, bit for bit."""

import pickle

import cv2
import numpy as np
import pytest
import torch
from coco_files import random_object, to_mask

import gol.models  # noqa: F401  (makes mmdet importable)
from gol.data.run_length_masks import RunLengthMasks

from mmcv import Config  # isort: skip
from mmdet.core import BitmapMasks, mask_target  # isort: skip


def edge_cases(height, width):
    """Masks at the border, all over the image, thin, crossing themselves, and empty."""
    size, whole = [height, width], height * width
    yield [[-3.0, -2.0, width + 4.0, 0.0, width, height, 0.0, height]]
    yield [[0, 0, 2, 0, 2, height, 0, height], [width - 1, 0, width, 0, width, 1, width - 1, 1]]
    yield [[3.0, 4.0, 9.0, 4.0, 6.0, 4.0]]  # no area
    yield [[1.5, 1.5, 20.2, 20.7, 20.2, 1.5, 1.5, 20.7]]  # a bow tie
    yield {"size": size, "counts": [0, whole]}
    yield {"size": size, "counts": [whole]}
    yield {"size": size, "counts": [5, 3, 0, 4, 0, 0, height, 2 * height, whole - 12 - 3 * height]}


@pytest.fixture
def pair(rng):
    """mmdet's masks and ours of one image."""
    height, width = (int(side) for side in rng.integers(30, 200, 2))
    found = [random_object(rng, width, height)["segmentation"] for _ in range(6)]
    found += edge_cases(height, width)
    bitmaps = np.stack([to_mask(each, height, width) for each in found]).astype(np.uint8)
    return BitmapMasks(bitmaps, height, width), RunLengthMasks.of(found, height, width)


def same(theirs, ours):
    assert ours.masks.dtype == theirs.masks.dtype and len(ours) == len(theirs)
    assert (ours.height, ours.width) == (theirs.height, theirs.width)
    return np.array_equal(ours.masks, theirs.masks)


def random_transform(rng, masks):
    """The name and the arguments of a transform that the augmentations of configs call."""
    height, width = masks.height, masks.width
    left, top = (int(rng.integers(max(side - 4, 1))) for side in (width, height))
    right, bottom = rng.integers(left + 2, width + 9), rng.integers(top + 2, height + 9)
    larger = height + int(rng.integers(0, 9)), width + int(rng.integers(0, 9))
    place = (int(rng.integers(larger[i] - (height, width)[i] + 1)) for i in (0, 1))
    sides = tuple(int(side) for side in rng.integers(20, 300, 2))
    calls = {
        "rescale": (sides,),
        "resize": (sides,),
        "flip": (str(rng.choice(["horizontal", "vertical", "diagonal"])),),
        "pad": (larger,),
        "crop": (np.array([left, top, right, bottom]),),
        "expand": (*larger, *place),
        "__getitem__": (
            rng.permutation(len(masks))[: rng.integers(len(masks) - 1, len(masks) + 1)],
        ),
    }
    name = str(rng.choice(list(calls)))
    return name, calls[name]


def targets(masks, boxes, owners, size=28):
    return mask_target([boxes], [owners], [masks], Config({"mask_size": size}))


@pytest.mark.parametrize("chain", range(6))
def test_masks_and_targets_after_any_chain_of_transforms(pair, rng, chain):
    theirs, ours = pair
    for _ in range(chain):
        name, arguments = random_transform(rng, theirs)
        theirs, ours = (getattr(masks, name)(*arguments) for masks in pair)
        assert type(ours) is RunLengthMasks and same(theirs, ours), name
        pair = theirs, ours
    centres = rng.uniform(-9, (theirs.width + 9, theirs.height + 9), (40, 2))
    halves = rng.uniform(0, 60, (40, 2))  # boxes outside the image and without an area too
    boxes = torch.from_numpy(np.concatenate([centres - halves, centres + halves], 1)).float()
    owners = torch.from_numpy(rng.integers(0, len(theirs), 40))
    for size in (14, (28, 20)):
        one, other = (targets(masks, boxes, owners, size) for masks in (theirs, ours))
        assert one.dtype == other.dtype and torch.equal(one, other)
    soft = [m.crop_and_resize(boxes, (7, 7), owners, binarize=False) for m in (theirs, ours)]
    assert same(*soft)


def test_what_needs_all_pixels_draws_them(pair):
    theirs, ours = (masks.rescale((90, 70)) for masks in pair)
    shape = theirs.height, theirs.width
    for name, arguments in {
        "rotate": (shape, 30.0),
        "shear": (shape, 0.2),
        "translate": (shape, 4),
        "resize": ((50, 60), "bilinear"),
        "rescale": ((50, 60), "bilinear"),
        "pad": ((150, 150), 1),
    }.items():
        assert same(*(getattr(masks, name)(*arguments) for masks in (theirs, ours))), name
    assert np.array_equal(theirs.areas, ours.areas)
    assert np.array_equal(theirs.get_bboxes(), ours.get_bboxes())
    assert torch.equal(*(m.to_tensor(torch.uint8, "cpu") for m in (theirs, ours)))
    assert np.array_equal(list(theirs), list(ours)) and same(theirs[3], ours[np.int64(3)])
    assert same(theirs[theirs.areas > 50], ours[theirs.areas > 50])


def test_an_image_without_masks_and_one_without_boxes(pair):
    for index in (slice(0), slice(3)):
        masks = [m[index].rescale((70, 90)).flip().pad((90, 90)) for m in pair]
        assert same(*masks)
        none = torch.zeros(0, 4), torch.zeros(0, dtype=torch.long)
        assert same(*(m.crop_and_resize(none[0], (28, 28), none[1]) for m in masks))
        assert torch.equal(*(targets(m, *none) for m in masks))


def test_a_worker_sends_kilobytes():
    """mmdet's bitmaps of such an image are 10 MB."""
    circles = [cv2.ellipse2Poly((300, 200), (90 + i, 80), 0, 0, 360, 5) for i in range(10)]
    masks = RunLengthMasks.of([[points.ravel().tolist()] for points in circles], 480, 640)
    masks = masks.rescale((1333, 800)).flip().pad((800, 1088))
    data = pickle.dumps(masks)
    assert len(data) < 50_000 and same(masks, pickle.loads(data))


@pytest.mark.parametrize(
    "rle",
    [
        {"size": [20, 30], "counts": [1, 598]},
        {"size": [30, 20], "counts": [0, 600]},
        {"size": [20, 30], "counts": "04 "},
        {"size": [20, 30], "counts": ""},
    ],
)
def test_an_rle_that_is_not_the_image_s_is_an_error(rle):
    with pytest.raises(ValueError, match=r"RLE is not of 30 x 20 px|counts hold"):
        RunLengthMasks.of([rle], 20, 30)
