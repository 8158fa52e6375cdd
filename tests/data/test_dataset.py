"""What changed after preprocessing is one line; RLE becomes polygons where a config wants these."""

import shutil

import numpy as np
import pytest
from coco_files import random_coco, to_mask
from PIL import Image
from seeds import fresh_seed

from gol import compat

compat.apply()

from gol.data.annotations import examine  # noqa: E402
from gol.data.dataset import InstanceDataset  # noqa: E402
from gol.data.loader import load  # noqa: E402
from gol.data.store import AnnotationStore  # noqa: E402
from gol.errors import UserError  # noqa: E402

PIPELINES = {
    "train": [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
        {"type": "Resize", "img_scale": (64, 64), "keep_ratio": True},
        {"type": "RandomFlip", "flip_ratio": 0.5},
        {"type": "DefaultFormatBundle"},
        {"type": "Collect", "keys": ["img", "gt_bboxes", "gt_labels", "gt_masks"]},
    ],
    "test": [
        {"type": "LoadImageFromFile"},
        {
            "type": "MultiScaleFlipAug",
            "img_scale": (64, 64),
            "flip": False,
            "transforms": [
                {"type": "Resize", "keep_ratio": True},
                {"type": "ImageToTensor", "keys": ["img"]},
                {"type": "Collect", "keys": ["img"], "meta_keys": ["filename"]},
            ],
        },
    ],
}


@pytest.fixture
def prepared(tmp_path):
    """A small dataset with RLE and polygons, and its store."""
    rng = np.random.default_rng(fresh_seed())
    data, _ = examine(random_coco(rng, tmp_path, images=4), tmp_path)
    AnnotationStore.from_annotations(data).save(tmp_path / "train.store")
    return data, tmp_path


def dataset(folder, mode="train", pipeline=None):
    pipeline = pipeline or PIPELINES[mode]
    file = str(folder / "train.store")
    return InstanceDataset(file, pipeline, img_prefix=str(folder), test_mode=mode == "test")


def enlarge(path):
    Image.new("RGB", (97, 91)).save(path)


SPOILS = {
    "emptied": (lambda path: path.write_bytes(b""), "missing or damaged"),
    "removed": (lambda path: path.unlink(), "missing or damaged"),
    "text": (lambda path: path.write_text("<html>"), "missing or damaged"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "missing or damaged"),
    "of another size": (enlarge, "is 97 x 91 px, not "),
}


@pytest.mark.parametrize("mode", PIPELINES)
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("spoil", SPOILS)
def test_an_image_that_changed_is_named_in_one_line(prepared, mode, workers, spoil):
    data, folder = prepared
    change, words = SPOILS[spoil]
    path = folder / data["images"][0]["file_name"]
    change(path)
    made = dataset(folder, mode)
    with pytest.raises(UserError) as error:
        list(load(made, [[index] for index in range(len(made))], workers))
    assert str(error.value).startswith(f"image {path} ") and words in str(error.value)
    assert "\n" not in str(error.value)
    shutil.rmtree(path, ignore_errors=True)


def test_rle_becomes_polygons_of_the_same_pixels(prepared):
    """mmdet's PolygonMasks know no RLE: `masks: polygon` ended in a traceback."""
    data, folder = prepared
    assert any(isinstance(a["segmentation"], dict) for a in data["annotations"])
    steps = [PIPELINES["train"][0], {**PIPELINES["train"][1], "poly2mask": False}]
    made = dataset(folder, pipeline=steps)
    for index in range(len(made)):
        info, item = made.data_infos[index], made[index]
        size = info["height"], info["width"]
        wanted = [a["segmentation"] for a in data["annotations"] if a["image_id"] == info["id"]]
        found = item["gt_masks"].masks
        assert len(found) == len(wanted)
        for polygons, segmentation in zip(found, wanted, strict=True):
            drawn = to_mask([p.tolist() for p in polygons], *size)
            assert (drawn == to_mask(segmentation, *size)).all()
