"""A resolved config is data: which classes it may name, and where.

A ``config.json`` may come from anybody, and mmdet builds whatever a ``type`` names. Some of what
mmcv and mmdet would build or call from a value runs code: an NMS's type is evaluated, a file client
extends ``sys.path``, a distilled detector executes its teacher's config, a pretrained part is
unpickled. What the experiments and their overrides need is allowed here, and nothing else.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from gol.config import registries
from gol.config.axes import axis_values
from gol.errors import UserError, choices, shown, unknown

#: mmcv imports these modules.
CUSTOM_IMPORTS = {"imports": ["gol.models"], "allow_failed_imports": False}
_KEYS = {
    *("model", "data", "optimizer", "optimizer_config", "lr_config", "runner", "evaluation"),
    *("custom_imports", "seed", "fp16", "gol"),
}
_NEEDED = ("model", "data", "optimizer", "optimizer_config", "lr_config", "runner", "gol")
_DATA_KEYS = ("samples_per_gpu", "workers_per_gpu", "train", "val", "test")
_DATASETS = {
    "InstanceDataset": ("type", "ann_file", "img_prefix", "pipeline"),
    "ClassBalancedDataset": ("type", "oversample_thr", "dataset"),
}
_DISK = {"backend": "disk"}
#: Types of parts that mmcv and mmdet look up elsewhere than in a registry, by the part's key.
_LOOKED_UP = {"nms": ("nms",), "nms_cfg": ("nms",), "roi_layer": ("RoIAlign",)}
_LISTED = 60  # most names in a message, and characters that are compared with them
_DEEPEST = 50  # lists and objects within each other

Path = tuple[str, ...]


def check_trusted(config: Mapping[str, Any], where: str = "") -> None:
    """Refuses a resolved config that names what it has no business to name.

    Args:
        config: its plain content.
        where: stands before the message, e.g. the file's name.

    Raises:
        UserError: the first such thing, with what is allowed.
    """
    try:
        parts = list(_parts(config))
        _check_keys(config)
        for path, part in parts:
            if path and path[0] in ("model", "data"):
                _check_part(path, part)
    except UserError as error:
        raise UserError(f"{where}: {error}" if where else str(error)) from error


def _check_keys(config: Mapping[str, Any]) -> None:
    """Checks the parts whose keys are all known, and the classes that they name."""
    _refuse_others("the config", config, _KEYS)
    for name in _NEEDED:
        if not isinstance(config.get(name), dict):
            raise UserError(f"key '{name}' must be an object, not {shown(config.get(name))}")
    if config.get("custom_imports", CUSTOM_IMPORTS) != CUSTOM_IMPORTS:
        found = shown(config["custom_imports"])
        raise UserError(f"custom_imports is {found}; allowed: {CUSTOM_IMPORTS}")
    _refuse_others("data", config["data"], _DATA_KEYS)
    for split in ("train", "val", "test"):
        _check_dataset(f"data.{split}", config["data"].get(split))
    for part, key, known in (
        ("optimizer", "type", registries.optimizers),
        ("lr_config", "policy", registries.policies),
    ):
        _check_name(f"{part}.{key}", config[part].get(key), known())


def _check_dataset(where: str, dataset: Any) -> None:
    if not isinstance(dataset, dict):
        raise UserError(f"key '{where}' must be an object, not {shown(dataset)}")
    _check_name(f"{where}.type", dataset.get("type"), _DATASETS)
    _refuse_others(where, dataset, _DATASETS[dataset["type"]])
    if "dataset" in dataset:
        _check_dataset(f"{where}.dataset", dataset["dataset"])


def _parts(config: Any) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every object with the keys that lead to it; an item of a list stands where its list does."""
    left: list[tuple[Path, int, Any]] = [((), 0, config)]
    while left:
        path, depth, value = left.pop()
        if depth > _DEEPEST:
            raise UserError(f"key '{path[0]}' is nested more than {_DEEPEST} deep")
        if isinstance(value, dict):
            yield path, value
            left += [((*path, name), depth + 1, item) for name, item in value.items()]
        elif isinstance(value, list | tuple):
            left += [(path, depth + 1, item) for item in value]


def _check_part(path: Path, part: dict[str, Any]) -> None:
    where = ".".join(path)
    if part.get("file_client_args", _DISK) != _DISK:
        found = shown(part["file_client_args"])
        raise UserError(f"{where}.file_client_args is {found}; allowed: {_DISK}")
    if part.get("pretrained") is not None:
        raise UserError(f"{where}.pretrained: not allowed; a backbone's weights are gol.weights")
    if path == ("model", "backbone", "init_cfg"):
        return  # looked at with the backbone
    if path == ("model", "backbone") and part.get("init_cfg") is not None:
        _check_published(part["init_cfg"])
    if "checkpoint" in part:  # some of mmdet's parts load it, whatever the type beside it
        raise UserError(f"{where}.checkpoint: not allowed; a backbone's weights are gol.weights")
    if part.get("type") is not None or path[-1] == "init_cfg":
        _check_name(f"{where}.type", part.get("type"), _allowed(path))


def _check_published(init: Any) -> None:
    """mmdet's tools load what stands here; ``gol.models`` loads ``gol.weights`` instead."""
    backbones = [value["model"]["backbone"] for value in axis_values("backbone").values()]
    published = [backbone["init_cfg"] for backbone in backbones if backbone["init_cfg"]]
    if init not in published:
        known = choices(each["checkpoint"] for each in published)
        raise UserError(f"model.backbone.init_cfg is {shown(init)}; allowed: {known}")


def _allowed(path: Path) -> Collection[str]:
    """The types that may stand at a place."""
    if path[0] == "data":
        return registries.transforms() if "pipeline" in path else _DATASETS
    if path == ("model",):
        return registries.detectors()
    if path[-1] in _LOOKED_UP:
        return _LOOKED_UP[path[-1]]
    return registries.initializers() if "init_cfg" in path else registries.detector_parts()


def _check_name(where: str, name: Any, known: Collection[str]) -> None:
    if not isinstance(name, str) or name not in known:
        if len(known) > _LISTED:
            close = difflib.get_close_matches(str(name)[:_LISTED], known, n=5)
            known = [*close, "any part of a detector in mmdet's registries"]
        raise unknown(where, name, known)


def _refuse_others(where: str, part: Mapping[str, Any], known: Collection[str]) -> None:
    for key in part:
        if key not in known:
            raise unknown("key", key, sorted(known), where)
