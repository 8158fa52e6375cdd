"""The data of a resolved config: mmdet's datasets, and the transforms of an image."""

from collections.abc import Mapping
from typing import Any

from gol.config.datasets import Dataset, DrawnDataset, FileDataset
from gol.config.detector import mmdet_config
from gol.data.prepared import Prepared


def _train_pipeline(model: Any, values: Mapping, dataset: Dataset) -> list[dict]:
    with_mask = "mask_head" in model.roi_head
    load = {"type": "LoadAnnotations", "with_bbox": True, "with_mask": with_mask}
    augmentation = [
        {
            "type": "Resize",
            "img_scale": [tuple(scale) for scale in _scales(values, dataset)],
            "multiscale_mode": "value",
            "keep_ratio": True,
        },
        {"type": "RandomFlip", "flip_ratio": 0.5},
    ]
    if values["schedule"]["augmentation"]:
        other = mmdet_config(values["schedule"]["augmentation"]).data.train.pipeline
        names = [step.type for step in other]
        augmentation = other[names.index("LoadAnnotations") + 1 : names.index("Normalize")]
    keys = ["img", "gt_bboxes", "gt_labels", *(["gt_masks"] if with_mask else [])]
    return [
        {"type": "LoadImageFromFile"},
        {**load, **(values["masks"] if with_mask else {})},
        *augmentation,
        *_normalize_and_pad(dataset),
        {"type": "DefaultFormatBundle"},
        {"type": "Collect", "keys": keys},
    ]


def _scales(values: Mapping, dataset: Dataset) -> list[list[int]]:
    """(width, height) in pixels that images are resized to within: the schedule's first."""
    return values["schedule"].get("image_scales") or dataset.image_scales


def _test_pipeline(values: Mapping, dataset: Dataset) -> list[dict]:
    transforms = [
        {"type": "Resize", "keep_ratio": True},
        {"type": "RandomFlip"},
        *_normalize_and_pad(dataset),
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "Collect", "keys": ["img"]},
    ]
    scale = tuple(_scales(values, dataset)[-1])
    shown = {"img_scale": scale, "flip": False, "transforms": transforms}
    return [{"type": "LoadImageFromFile"}, {"type": "MultiScaleFlipAug", **shown}]


def _normalize_and_pad(dataset: Dataset) -> list[dict]:
    return [
        {"type": "Normalize", **dataset.normalize.model_dump()},
        {"type": "Pad", "size_divisor": dataset.pad},
    ]


def set_data(
    config: Any, values: Mapping[str, Any], dataset: DrawnDataset | FileDataset, prepared: Prepared
) -> None:
    """Sets the key ``data``: a micro-batch, and the datasets of training and test.

    Args:
        config: the config, which is changed; has the key ``model`` already.
        values: axis to the definition of its value.
        dataset: image scales, normalisation, folders.
        prepared: its prepared annotations.
    """

    def part(split: str, pipeline: list) -> dict:
        return {
            "type": "InstanceDataset",
            "ann_file": str(prepared.store(split)),
            "img_prefix": str(dataset.files(split, prepared.folder)[1]),
            "pipeline": pipeline,
        }

    train_part = part("train", _train_pipeline(config.model, values, dataset))
    test = _test_pipeline(values, dataset)
    if values["sampler"]["repeat"]:
        train_part = {
            "type": "ClassBalancedDataset",
            "oversample_thr": dataset.repeat_threshold,
            "dataset": train_part,
        }
    config.data = {
        "samples_per_gpu": values["schedule"]["batch"],
        "workers_per_gpu": values["schedule"]["workers"],
        "train": train_part,
        "val": part("val", test),
        "test": part("val", test),
    }
