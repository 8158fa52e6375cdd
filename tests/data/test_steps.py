"""Our steps of a data pipeline against mmdet's: every tensor of a batch, bit for bit."""

import json
import random

import cv2
import numpy as np
import pytest
import torch
from coco_files import random_coco

import gol
import gol.models  # makes mmdet importable
from gol.data import steps
from gol.data.dataset import InstanceDataset
from gol.data.loader import load
from gol.data.pixels import collate_items
from gol.errors import UserError

from mmcv.parallel import DataContainer, collate  # isort: skip
from mmdet.datasets.pipelines import Compose  # isort: skip

# The paper's augmentation, without masks, Swin's (RandomCrop), of detection.
CASES = {
    "mask_rcnn": {},
    "faster_rcnn": {"detector": "faster_rcnn"},
    "swin": {"schedule": "swin_1x"},
    "test": {},
}
SEED = 3


class Items:
    """Items of a dataset by a pipeline, the random numbers drawn from their index."""

    def __init__(self, dataset, pipeline):
        self.dataset, self.pipeline = dataset, pipeline

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        random.seed(index + SEED)
        np.random.seed(index + SEED)
        results = {"img_info": self.dataset.data_infos[index]}
        if not self.dataset.test_mode:
            results["ann_info"] = self.dataset.get_ann_info(index)
        self.dataset.pre_pipeline(results)
        return self.pipeline(results)


@pytest.fixture
def photos(rng, tmp_path, monkeypatch):
    """Small photos, a grey one among them, with masks of every form in each."""
    monkeypatch.setattr(steps, "SMALL", 3000)  # some of the photos are
    data = random_coco(rng, tmp_path, images=6)
    path = str(tmp_path / data["images"][0]["file_name"])
    cv2.imwrite(path, cv2.imread(path, cv2.IMREAD_GRAYSCALE))
    (tmp_path / "train.json").write_text(json.dumps(data))
    return tmp_path


@pytest.fixture(params=CASES)
def pipeline(request, demo_data):
    config = gol.load_experiment("demo/gumbel", CASES[request.param], demo_data)
    return config.data["test" if request.param == "test" else "train"].pipeline


def dataset(folder, pipeline):
    test = pipeline[1]["type"] == "MultiScaleFlipAug"
    return InstanceDataset(
        str(folder / "train.json"), pipeline, img_prefix=str(folder), test_mode=test
    )


def equal(one, other):
    if isinstance(one, DataContainer):
        return one.stack == other.stack and equal(one.data, other.data)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return np.array_equal(*(getattr(value, "masks", value) for value in (one, other)))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_mmdets(pipeline, photos, workers):
    made = dataset(photos, pipeline)
    theirs, ours = Items(made, Compose(pipeline)), Items(made, made.pipeline)
    assert len(made.pipeline.transforms) < len(pipeline) or made.test_mode
    size = 1 if made.test_mode else 4
    batches = [list(range(start, len(made)))[:size] for start in range(0, len(made), size)]
    for expected, found in zip(load(theirs, batches), load(ours, batches, workers), strict=True):
        assert equal(expected, found)


def test_mmdets_own_tools_collate_our_items(photos, demo_data):
    """They know no `collate_items`, and ask each image for its tensor."""
    made = dataset(photos, gol.load_experiment("demo/gumbel", {}, demo_data).data.train.pipeline)
    items = [made[index] for index in range(3)]
    batch, expected = collate(items, samples_per_gpu=3), collate_items(items)
    assert torch.equal(batch["img"].data[0], expected["img"])


@pytest.mark.parametrize(
    "change",
    [
        {"Normalize": {"to_rgb": False}},
        {"Pad": {"size_divisor": None, "size": (200, 220)}},
        {"Pad": {"pad_val": {"img": 1, "masks": 1, "seg": 255}}},
        {"DefaultFormatBundle": {"pad_val": {"img": 2, "masks": 0, "seg": 255}}},
        {"Rotate": {"level": 9, "prob": 1.0}},
        {"PhotoMetricDistortion": {}},  # makes it an image of float32
    ],
    ids=str,
)
def test_settings_that_are_not_the_usual_ones(change, photos, demo_data):
    pipeline = gol.load_experiment("demo/gumbel", {}, demo_data).data.train.pipeline
    ((name, values),) = change.items()
    for step in pipeline:
        step.update(values if step.type == name else {})
    if name not in [step.type for step in pipeline]:
        pipeline.insert(3, {"type": name, **values})
    made = dataset(photos, pipeline)
    theirs, ours = Items(made, Compose(pipeline)), Items(made, made.pipeline)
    for index in range(len(made)):
        assert equal(theirs[index], ours[index])


def test_a_broken_rle_names_its_image(photos, demo_data):
    data = json.loads((photos / "train.json").read_text())
    for annotation in data["annotations"]:
        annotation["segmentation"] = {"size": [7, 9], "counts": [3, 60]}
    (photos / "train.json").write_text(json.dumps(data))
    pipeline = gol.load_experiment("demo/gumbel", {}, demo_data).data.train.pipeline
    made = dataset(photos, pipeline)
    large = made.store.image_size.prod(1).argmax()
    name = data["images"][large]["file_name"]
    with pytest.raises(UserError, match=rf"image {name}: an RLE is not of \d+ x \d+ px"):
        made[large]
