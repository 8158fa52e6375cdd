"""The detector of a resolved config: mmdet's own files and what the axes change in them."""

import copy
import importlib.util
import inspect
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gol.config.datasets import Dataset
from gol.data.constants import Constants
from gol.data.prepared import Prepared
from gol.errors import UserError, plural


def mmcv_config() -> type:
    """mmcv's ``Config``; importing mmcv takes a second that not every user of this module pays."""
    from gol import compat

    compat.quiet()
    from mmcv import Config

    return Config


def mmdet_config(name: str) -> Any:
    """One of the config files that mmdet ships."""
    # Importing mmdet takes seconds, and only its folder is wanted.
    folder = Path(importlib.util.find_spec("mmdet").origin).parent
    return mmcv_config().fromfile(str(folder / ".mim/configs" / f"{name}.py"))


def detector_config(detector: dict[str, Any], backbone: dict[str, Any]) -> Any:
    """The config of a detector with a backbone: mmdet's own file and what ours says of both."""
    model = mmdet_config(detector["base"]).model.to_dict()
    _merge(model, copy.deepcopy(detector["model"]))
    own = copy.deepcopy(backbone["model"])
    if "mask_head" not in model["roi_head"]:
        for part in ("mask_head", "mask_roi_extractor"):
            own.get("roi_head", {}).pop(part, None)
    _merge(model, own)
    for head in _as_list(model["roi_head"].get("mask_head") or []):
        if head["type"] == "HTCMaskHead":  # adds one stage's features to the next one's input
            head["conv_out_channels"] = head["in_channels"]
    return mmcv_config()({"model": model})


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


def class_statistics(dataset: Dataset, name: str, prepared: Prepared) -> dict[str, Any]:
    """How the dataset tells a loss its class frequencies, and how many classes there are.

    Args:
        dataset: its definition.
        name: by which ``gol preprocess`` knows it.
        prepared: the folder that ``gol preprocess`` writes.

    Raises:
        UserError: the number of classes is not known yet, or not as the dataset says.
    """
    if dataset.statistics:
        return {"version": dataset.statistics, "num_classes": dataset.num_classes}
    from gol.losses.class_statistics import ClassStatistics

    path, count = prepared.classes, dataset.num_classes
    if path.exists():
        found = len(ClassStatistics.load(path).ids)
        if count not in (None, found):
            raise UserError(
                f"{path} has {plural(found, 'class')}, but the dataset says num_classes: {count}"
            )
        count = found
    if count is None:
        raise UserError(f"{_uncounted(name, prepared)} (or state num_classes)")
    return {"class_statistics": str(path), "num_classes": count}


def settled(dataset: Dataset, name: str, prepared: Prepared) -> tuple[Dataset, Constants | None]:
    """A dataset with numbers where its file says ``auto``, and what they were taken from.

    Args:
        dataset: its definition.
        name: by which ``gol preprocess`` knows it.
        prepared: the folder that ``gol preprocess`` writes.

    Returns:
        The dataset, and the constants; None if its classes are not counted yet.

    Raises:
        UserError: a number is needed before the classes are counted.
    """
    from gol.losses.class_statistics import ClassStatistics

    if dataset.statistics:
        statistics = ClassStatistics.published(dataset.statistics)
    elif prepared.classes.exists():
        statistics = ClassStatistics.load(prepared.classes)
    elif dataset.derived:
        raise _uncounted(name, prepared)
    else:
        return dataset, None
    constants = Constants.of(statistics)
    values = {key: getattr(constants, key) for key in dataset.derived}
    return dataset.model_copy(update=values), constants


def _uncounted(name: str, prepared: Prepared) -> UserError:
    path = prepared.classes
    command = shlex.join(["gol", "preprocess", "--dataset", name, "--out", str(path.parent)])
    return UserError(f"{path} is missing: `{command}` writes it")


def set_heads(
    model: Any, values: Mapping[str, Any], dataset: Dataset, statistics: Mapping[str, Any]
) -> None:
    """Gives the heads their loss, number of classes, last layers and first values.

    Args:
        model: key ``model`` of the config, which is changed.
        values: axis to the definition of its value.
        dataset: says which classes are rare.
        statistics: result of :func:`class_statistics`.
    """
    from gol.losses import LOSSES  # torch, which not every user of this module pays for

    classifier, roi_head = values["classifier"], model.roi_head
    offered = {**statistics, "lambda_": dataset.rare_frequency}
    loss, bias = dict(classifier["loss"]), classifier["bias"]
    if loss["type"] in LOSSES:
        loss_class = LOSSES[loss["type"]]
        asked = inspect.signature(loss_class).parameters
        loss |= {key: value for key, value in offered.items() if key in asked}
        bias = loss_class.initial_bias if bias is None else bias
    for head in _as_list(roi_head.bbox_head):
        head.num_classes, head.loss_cls = offered["num_classes"], loss
        if bias is not None:
            init = {"type": "Constant", "val": classifier["weight"], "bias": bias}
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
