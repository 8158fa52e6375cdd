"""Axes in, one resolved mmdet config out."""

import copy
import hashlib
import importlib.util
import inspect
import json
import math
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gol.config.axes import (
    AXES,
    axis_values,
    check_combination,
    experiment_entry,
    load_dataset,
    split_files,
)
from gol.data.store import file_digest
from gol.errors import UserError, choices, pick
from gol.files import read_json, write_json

#: Keys of a resolved config whose override makes another training.
_TRAINING = ("model", "optimizer", "lr_config", "runner", "fp16", "gol.global_batch", "gol.base")


def load_experiment(
    name: str,
    overrides: Mapping[str, Any] | None = None,
    prepared: str | Path | None = None,
) -> Any:
    """Resolves an experiment.

    Args:
        name: one of ``experiments()``.
        overrides: axis values (``backbone``, ``dataset`` …), ``seed``, or dotted keys of the
            resolved config such as ``optimizer.lr``. ``dataset`` may be a YAML file too.
        prepared: folder with ``train.store``, ``val.store`` and ``classes.json`` of the dataset, as
            written by ``gol preprocess``; default ``results/<dataset>/data/<dataset>``.

    Returns:
        mmcv ``Config`` that mmdet's own tools accept too; its key ``gol`` holds what is ours.

    Raises:
        UserError: unknown experiment, axis value or config key, with what is allowed.
    """
    entry, overrides = experiment_entry(name), dict(overrides or {})
    axes, own = entry["axes"], dict(entry["axes"])
    axes.update({axis: overrides.pop(axis) for axis in AXES if axis in overrides})
    if axes != own or any(str(key).startswith(_TRAINING) for key in overrides):
        # the published numbers are another experiment's
        entry["compare"] = entry["compare"] or name
    seed = overrides.pop("seed", 0)
    if type(seed) is not int or seed < 0:
        raise UserError(f"seed is {seed!r}; allowed: whole numbers from 0 on")
    values = {axis: pick(axis, axes[axis], axis_values(axis)) for axis in AXES if axis != "dataset"}
    check_combination(axes)
    dataset = load_dataset(axes["dataset"])
    stem = Path(axes["dataset"]).stem
    prepared = Path(prepared or Path("results") / stem / "data" / stem)

    config = _base(values["detector"], values["backbone"])
    _set_heads(config.model, values, dataset, _statistics(dataset, axes["dataset"], prepared))
    _set_data(config, values, dataset, prepared)
    _set_schedule(config, values)
    config.custom_imports = {"imports": ["gol.models"], "allow_failed_imports": False}
    config.seed = seed
    config.gol = {
        "experiment": name,
        **entry,
        "seed": seed,
        "scorings": values["classifier"]["scorings"],
        "statement": dataset.get("statement"),
        "base_batch": values["schedule"]["base_batch"],
        "global_batch": values["schedule"]["base_batch"],
        "precision": values["precision"]["dtype"],
        "weights": values["backbone"].get("weights"),
        "checkpoint_interval": 500,
        "checkpoint_minutes": 15,
        "threads": 1,
    }
    _apply_overrides(config, overrides)
    return type(config)(config._cfg_dict.to_dict())  # plain dicts become mmcv's


def save_config(config: Any, run: Path) -> None:
    """Writes a resolved config as ``config.json`` into a run folder."""
    write_json(run / "config.json", config._cfg_dict.to_dict(), indent=1)


def python_config(config: Any) -> str:
    """The resolved config as a Python file that stock mmdet 2.x tools read."""
    runtime = _mmdet_config("_base_/default_runtime")._cfg_dict.to_dict()
    values = {**runtime, **config._cfg_dict.to_dict()}
    # Fewer epochs by an override must not mean that mmdet's tools never evaluate.
    evaluation, epochs = values["evaluation"], values["runner"]["max_epochs"]
    values["evaluation"] = {**evaluation, "interval": min(evaluation["interval"], epochs)}
    own = (values["gol"]["weights"] or {}).get("file")
    if own:  # what gol.weights loads here, mmdet's tools load by init_cfg
        values["model"]["backbone"]["init_cfg"] = {"type": "Pretrained", "checkpoint": own}
    return type(config)(values).pretty_text


def load_config(run: str | Path) -> Any:
    """Reads a run folder's ``config.json`` as an mmcv ``Config``; no code is executed.

    Raises:
        UserError: the file is missing, truncated or no config.
    """
    path = Path(run) / "config.json"
    content = read_json(path)
    if not isinstance(content, dict) or "gol" not in content:
        raise UserError(f"{path} is no resolved config: write one with `gol config`")
    return _mmcv_config()(_tuples(content))


def _tuples(value: Any, key: str = "") -> Any:
    """JSON has no tuples, and mmdet tells one image scale (a tuple) from a list of them."""
    if isinstance(value, dict):
        return {name: _tuples(item, name) for name, item in value.items()}
    if isinstance(value, list):
        if key == "img_scale":
            return [tuple(item) for item in value] if isinstance(value[0], list) else tuple(value)
        return [_tuples(item) for item in value]
    return value


def fingerprint(config: Any) -> str:
    """SHA-256 of a resolved config and the training annotations that it names.

    Two runs with the same fingerprint are the same training.

    Args:
        config: as :func:`load_config` reads it, or the plain content of ``config.json``.

    Raises:
        UserError: the annotation file cannot be read.
    """
    values = getattr(config, "_cfg_dict", config)
    train = values["data"]["train"]
    content = json.dumps(values, sort_keys=True)
    annotations = file_digest(train.get("dataset", train)["ann_file"])
    return hashlib.sha256(f"{content}{annotations}".encode()).hexdigest()


def _mmcv_config() -> type:
    """mmcv's ``Config``; importing mmcv takes a second that not every user of this module pays."""
    from gol import compat

    compat.quiet()
    from mmcv import Config

    return Config


def _mmdet_config(name: str) -> Any:
    """One of the config files that mmdet ships."""
    # Importing mmdet takes seconds, and only its folder is wanted.
    folder = Path(importlib.util.find_spec("mmdet").origin).parent
    return _mmcv_config().fromfile(str(folder / ".mim/configs" / f"{name}.py"))


def _base(detector: dict, backbone: dict) -> Any:
    model = _mmdet_config(detector["base"]).model.to_dict()
    _merge(model, copy.deepcopy(detector["model"]))
    own = copy.deepcopy(backbone["model"])
    if "mask_head" not in model["roi_head"]:
        for part in ("mask_head", "mask_roi_extractor"):
            own.get("roi_head", {}).pop(part, None)
    _merge(model, own)
    for head in _as_list(model["roi_head"].get("mask_head") or []):
        if head["type"] == "HTCMaskHead":  # adds one stage's features to the next one's input
            head["conv_out_channels"] = head["in_channels"]
    return _mmcv_config()({"model": model})


def _merge(target: dict, patch: Mapping) -> None:
    """Merges a nested dict into another; into each of a list, as a cascade's heads are.

    ``_delete_: true`` in a part of the patch replaces that part, as in mmcv.
    """
    for key, value in patch.items():
        if not isinstance(value, Mapping):
            target[key] = value
        elif isinstance(target.get(key), list):
            for item in target[key]:
                _merge(item, value)
        else:
            kept = isinstance(target.get(key), dict) and not value.get("_delete_")
            part = target[key] if kept else {}
            _merge(part, {name: item for name, item in value.items() if name != "_delete_"})
            target[key] = part


def _statistics(dataset: Mapping, name: str, prepared: Path) -> dict[str, Any]:
    """How the dataset tells a loss its class frequencies, and how many classes there are."""
    if dataset.get("statistics"):
        return {"version": dataset["statistics"], "num_classes": dataset["num_classes"]}
    from gol.losses.class_statistics import ClassStatistics

    path, count = prepared / "classes.json", dataset.get("num_classes")
    if path.exists():
        found = len(ClassStatistics.load(path).ids)
        if count not in (None, found):
            raise UserError(
                f"{path} has {found} classes, but the dataset says num_classes: {count}"
            )
        count = found
    if count is None:
        command = shlex.join(["gol", "preprocess", "--dataset", name, "--out", str(prepared)])
        raise UserError(f"{path} is missing: `{command}` writes it (or state num_classes)")
    return {"class_statistics": str(path), "num_classes": count}


def _set_heads(model: Any, values: Mapping, dataset: Mapping, statistics: Mapping) -> None:
    from gol.losses import LOSSES  # torch, which not every user of this module pays for

    classifier, roi_head = values["classifier"], model.roi_head
    offered = {**statistics, "lambda_": dataset["rare_frequency"]}
    loss = dict(classifier["loss"])
    if loss["type"] in LOSSES:
        asked = inspect.signature(LOSSES[loss["type"]]).parameters
        loss |= {key: value for key, value in offered.items() if key in asked}
    for head in _as_list(roi_head.bbox_head):
        head.num_classes, head.loss_cls = offered["num_classes"], loss
        if classifier["bias"] is not None:
            init = {"type": "Constant", "val": classifier["weight"], "bias": classifier["bias"]}
            head.init_cfg = {**init, "override": {"name": "fc_cls"}}
        if values["layer"]:
            head.cls_predictor_cfg = values["layer"]
    for head in _as_list(roi_head.get("mask_head") or []):
        head.num_classes = offered["num_classes"]
        if values["mask_predictor"]:
            head.predictor_cfg = values["mask_predictor"]
    model.test_cfg.rcnn.nms.iou_threshold = values["test_nms"]


def _as_list(value: Any) -> list:
    return value if isinstance(value, list) else [value]


def _train_pipeline(model: Any, values: Mapping, dataset: Mapping) -> list[dict]:
    with_mask = "mask_head" in model.roi_head
    load = {"type": "LoadAnnotations", "with_bbox": True, "with_mask": with_mask}
    augmentation = [
        {
            "type": "Resize",
            "img_scale": [tuple(scale) for scale in dataset["image_scales"]],
            "multiscale_mode": "value",
            "keep_ratio": True,
        },
        {"type": "RandomFlip", "flip_ratio": 0.5},
    ]
    if values["schedule"]["augmentation"]:
        other = _mmdet_config(values["schedule"]["augmentation"]).data.train.pipeline
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


def _test_pipeline(dataset: Mapping) -> list[dict]:
    transforms = [
        {"type": "Resize", "keep_ratio": True},
        {"type": "RandomFlip"},
        *_normalize_and_pad(dataset),
        {"type": "ImageToTensor", "keys": ["img"]},
        {"type": "Collect", "keys": ["img"]},
    ]
    scale = tuple(dataset["image_scales"][-1])
    shown = {"img_scale": scale, "flip": False, "transforms": transforms}
    return [{"type": "LoadImageFromFile"}, {"type": "MultiScaleFlipAug", **shown}]


def _normalize_and_pad(dataset: Mapping) -> list[dict]:
    return [
        {"type": "Normalize", **dataset["normalize"]},
        {"type": "Pad", "size_divisor": dataset["pad"]},
    ]


def _set_data(config: Any, values: Mapping, dataset: Mapping, prepared: Path) -> None:
    def part(split: str, pipeline: list) -> dict:
        return {
            "type": "InstanceDataset",
            "ann_file": str(prepared / f"{split}.store"),
            "img_prefix": str(split_files(dataset, split, prepared)[1]),
            "pipeline": pipeline,
        }

    train_part = part("train", _train_pipeline(config.model, values, dataset))
    test = _test_pipeline(dataset)
    if values["sampler"]["repeat"]:
        train_part = {
            "type": "ClassBalancedDataset",
            "oversample_thr": dataset["repeat_threshold"],
            "dataset": train_part,
        }
    config.data = {
        "samples_per_gpu": values["schedule"]["batch"],
        "workers_per_gpu": values["schedule"]["workers"],
        "train": train_part,
        "val": part("val", test),
        "test": part("val", test),
    }


def _set_schedule(config: Any, values: Mapping) -> None:
    schedule, fp16 = values["schedule"], values["precision"]["fp16"]
    config.optimizer = schedule["optimizer"]
    config.optimizer_config = {"grad_clip": schedule["grad_clip"]}
    config.lr_config = schedule["lr_config"]
    config.runner = {"type": "EpochBasedRunner", "max_epochs": schedule["max_epochs"]}
    kinds = ["bbox", "segm"] if "mask_head" in config.model.roi_head else ["bbox"]
    config.evaluation = {"metric": kinds, "interval": schedule["max_epochs"]}
    if fp16:
        config.fp16 = fp16


_PLAIN = (str, int, type(None))  # bool is an int
#: Parts of a config that may be left out; the others stay mappings.
_OPTIONAL = ("gol.weights", "optimizer_config.grad_clip")


def _apply_overrides(config: Any, overrides: Mapping[str, Any]) -> None:
    for key, value in overrides.items():
        if not isinstance(key, str):
            raise UserError(f"override {key!r}: expected a dotted key such as optimizer.lr")
        *folders, last = key.split(".")
        place = config._cfg_dict
        for depth, part in enumerate([*folders, last]):
            where = ".".join(folders[:depth]) or "the config"
            if not isinstance(place, Mapping):
                raise UserError(
                    f"override {key}: {where} is a {type(place).__name__} and has no keys"
                )
            if part not in place:
                allowed = [*AXES, "seed", *place] if depth == 0 else list(place)
                raise UserError(
                    f"unknown key '{part}' in {where} (override {key}); allowed: {choices(allowed)}"
                )
            place = place[part]
        _check_value(key, value, place)
        if place is None and isinstance(value, Mapping):
            value = {"_delete_": True, **value}  # mmcv merges into mappings alone
        try:
            config.merge_from_dict({key: value})
        except TypeError as error:
            raise UserError(f"override {key}: {value!r} does not fit what is there") from error


def _check_value(key: str, value: Any, present: Any) -> None:
    if not _is_plain(value):
        raise UserError(f"override {key}: {value!r} is not made of finite numbers, texts and keys")
    optional = present is None or (value is None and key in _OPTIONAL)
    if isinstance(present, Mapping) != isinstance(value, Mapping) and not optional:
        expected = f"keys ({choices(present)})" if isinstance(present, Mapping) else "a value"
        raise UserError(f"override {key}: expected {expected}, not {value!r}")


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold the value."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return math.isfinite(value) if isinstance(value, float) else isinstance(value, _PLAIN)
