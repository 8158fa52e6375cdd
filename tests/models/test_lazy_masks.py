"""The masks of whole detectors: mmdet's, as RLEs, for every kind of mask head."""

import copy
from itertools import chain

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

import gol
from gol.engine.per_class import without_masks
from gol.models import lazy_masks, set_scoring
from gol.models.postprocess import set_floors, set_postprocessing

AXES = {
    "class-agnostic": {"detector": "mask_rcnn"},
    "mask_rcnn": {"detector": "mask_rcnn"},
    "normed": {"detector": "mask_rcnn", "mask_predictor": "normed"},
    "cascade": {"detector": "cascade_mask_rcnn"},
    "htc": {"detector": "htc"},
}


def build(axes, data, class_agnostic=False):
    """A detector with random weights that finds objects of several classes."""
    config = gol.load_experiment("demo/sigmoid", axes, data)
    heads = config.model.roi_head.get("mask_head", [])
    for head in heads if isinstance(heads, list) else [heads]:
        head.class_agnostic = class_agnostic
    config.model.test_cfg.rcnn.max_per_img = 120  # of 100 proposals: of several classes
    detector = gol.build_detector(config).eval()
    set_scoring(detector, "sigmoid")
    generator = torch.Generator().manual_seed(0)
    for name, weight in detector.named_parameters():
        if name.endswith(("fc_cls.weight", "conv_logits.weight")):
            weight.data = torch.randn(weight.shape, generator=generator) * 0.3
    return detector


def detect(detector, images):
    """Results of a batch of images that the detector sees at 1.5 times their size."""
    meta = {
        "ori_shape": (64, 80, 3),
        "img_shape": (96, 120, 3),
        "pad_shape": (96, 128, 3),
        "scale_factor": np.full(4, 1.5, np.float32),
        "flip": False,
    }
    with torch.inference_mode():
        metas = [meta] * len(images)
        return detector(return_loss=False, rescale=True, img=[images], img_metas=[metas])


@pytest.mark.parametrize("kind", AXES)
def test_the_results_are_mmdets(kind, demo_data, rng):
    """mmdet asks each kind of detector for its masks in another way."""
    detector = build(AXES[kind], demo_data, class_agnostic=kind == "class-agnostic")
    lazy = copy.deepcopy(detector)
    lazy_masks(lazy, at_once=150)  # those of both images are made in two parts
    images = torch.from_numpy(rng.normal(size=(2, 3, 96, 128)).astype(np.float32))
    for batch in (images, images[:1]):  # the second must not remember the first
        pairs = zip(detect(detector, batch), detect(lazy, batch), strict=True)
        for (boxes, bitmaps), (same_boxes, rles) in pairs:
            np.testing.assert_array_equal(np.concatenate(same_boxes), np.concatenate(boxes))
            assert sum(map(len, bitmaps)) == 120
            assert [len(found) for found in rles] == [len(found) for found in bitmaps]
            for expected, rle in zip(chain(*bitmaps), chain(*rles), strict=True):
                np.testing.assert_array_equal(coco_mask.decode(rle), expected)


def test_images_in_which_nothing_is_found(demo_data):
    """mmdet then does not ask for masks, or for those of the other images alone."""
    detector = build(AXES["cascade"], demo_data)
    lazy_masks(detector)
    images = torch.randn(2, 3, 96, 128)
    detector.roi_head.test_cfg.score_thr = 0.9999
    for boxes, masks in detect(detector, images):
        assert not np.concatenate(boxes).size and not any(masks)
    detector.roi_head.test_cfg.score_thr = 1e-4
    assert all(sum(map(len, masks)) == 120 for _, masks in detect(detector, images))


def test_a_detector_of_boxes_stays_as_it_is(demo_data):
    detector = build({"detector": "faster_rcnn"}, demo_data)
    lazy_masks(detector)
    assert sum(map(len, detect(detector, torch.randn(1, 3, 96, 128))[0])) == 120


@pytest.mark.parametrize("kind", ["cascade", "htc"])
def test_cascades_find_all_above_floors_with_masks_and_without(kind, demo_data):
    """Both passes of ``gol detect --per-class`` see the same boxes."""
    detector = build(AXES[kind], demo_data)
    set_postprocessing(detector)
    lazy_masks(detector, at_once=90)
    set_floors(detector, torch.full((40,), 2e-3))
    images = torch.randn(1, 3, 96, 128)
    with without_masks(detector):
        (alone,) = detect(detector, images)
    ((boxes, masks),) = detect(detector, images)
    np.testing.assert_array_equal(np.concatenate(boxes), np.concatenate(alone))
    assert len(np.concatenate(boxes)) > 120 and np.concatenate(boxes)[:, 4].min() >= 2e-3
    assert [len(found) for found in masks] == [len(found) for found in boxes]
