"""The axes of an experiment and their values, as ``configs/`` states them.

Each value lives in one place: ``configs/models`` (a file a detector or backbone),
``configs/datasets`` (a file a dataset) or ``configs/axes.yaml``; ``configs/experiments.yaml``
names one value for each axis.
"""

import copy
import math
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gol.errors import UserError, choices, pick
from gol.files import configs_folder, read_yaml
from gol.sources import raw

#: Every axis in the order of listings, and the value of an experiment that does not name one.
DEFAULT_AXES = {
    "detector": "mask_rcnn",
    "backbone": "r50",
    "classifier": "gumbel",
    "layer": "linear",
    "mask_predictor": "conv",
    "masks": "bitmap",
    "sampler": "random",
    "schedule": "1x",
    "test_nms": "iou_0.5",
    "precision": "float32",
    "dataset": "lvis_v1",
}
AXES = tuple(DEFAULT_AXES)
_SETTINGS = ("image_scales", "normalize", "pad", "repeat_threshold", "rare_frequency")
_SPLIT = ("annotations", "images")
_DRAW = ("seed", "train_images", "val_images", "size", "classes")
_DATASET_DEFAULTS = {
    "statement": None,
    "num_classes": None,
    "statistics": None,
    "thresholds": [10, 100],
    "decode": True,
    "drop_bad": False,
    "download": [],
}


def _is_number(value: Any, least: float = 0, whole: bool = False) -> bool:
    kinds = int if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and least <= value < math.inf


def _are(value: Any, count: int, least: float = 0, whole: bool = False) -> bool:
    """Whether the value is a list of so many numbers."""
    is_list = isinstance(value, list) and len(value) == count
    return is_list and all(_is_number(item, least, whole) for item in value)


def _is_normalize(value: Any) -> bool:
    return (
        isinstance(value, dict)
        and value.keys() == {"mean", "std", "to_rgb"}
        and _are(value["mean"], 3)
        and _are(value["std"], 3)
        and 0 not in value["std"]
        and isinstance(value["to_rgb"], bool)
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


_SHARE = (lambda value: _is_number(value) and value <= 1, "a number from 0 to 1")
_FLAG = (lambda value: isinstance(value, bool), "true or false")
_PATH = (_is_text, "a path")
_COUNT = (lambda value: _is_number(value, 0, True), "a whole number from 0 on")
#: Key of a dataset file to the check of its value, and what the value has to be.
_VALUES = {
    "image_scales": (
        lambda value: (
            isinstance(value, list) and value and all(_are(pair, 2, 1, True) for pair in value)
        ),
        "a list of [width, height] in pixels",
    ),
    "normalize": (_is_normalize, "mean and std (three numbers each) and to_rgb (true or false)"),
    "pad": (lambda value: _is_number(value, 1, True), "a whole number from 1 on"),
    "repeat_threshold": _SHARE,
    "rare_frequency": _SHARE,
    "statement": (lambda value: value is None or _is_text(value), "a text"),
    "num_classes": (
        lambda value: value is None or _is_number(value, 1, True),
        "a whole number from 1 on",
    ),
    "thresholds": (
        lambda value: _are(value, 2, 1, True) and value[0] < value[1],
        "two whole numbers, 0 < rare < common",
    ),
    "decode": _FLAG,
    "drop_bad": _FLAG,
    "download": (lambda value: isinstance(value, list), "a list of downloads"),
    **dict.fromkeys(_SPLIT, _PATH),
    **dict.fromkeys(_DRAW, _COUNT),
}


@cache
def _table() -> dict[str, dict]:
    return read_yaml(configs_folder() / "experiments.yaml")


@cache
def _axes() -> dict[str, dict]:
    return read_yaml(configs_folder() / "axes.yaml")


@cache
def _datasets() -> dict[str, dict]:
    files = sorted((configs_folder() / "datasets").glob("*.yaml"))
    return {file.stem: read_yaml(file) for file in files}


@cache
def _models(kind: str) -> dict[str, dict]:
    files = sorted((configs_folder() / "models").glob("*.yaml"))
    return {f.stem: content for f in files if (content := read_yaml(f))["kind"] == kind}


def experiments() -> list[str]:
    """Names of all experiments, in the order of ``configs/experiments.yaml``."""
    return list(_table())


def experiment_entry(name: str) -> dict[str, Any]:
    """The experiment's label, all its axes and the published numbers beside it.

    ``compare`` is the experiment that these are for, if it is another one; ``published_note`` says
    what to know about them. What there is not is None.

    Raises:
        UserError: there is no experiment of this name.
    """
    entry = pick("experiment", name, _table())
    published = _table()[entry["compare"]] if "compare" in entry else entry
    return {
        "label": entry["label"],
        "axes": {**DEFAULT_AXES, **entry["axes"]},
        "compare": entry.get("compare"),
        "published": published.get("published"),
        "published_note": published.get("published_note"),
    }


def axis_values(axis: str) -> dict[str, Any]:
    """All values of one axis: name to definition; the caller may change what it gets."""
    if axis in ("detector", "backbone"):
        return copy.deepcopy(_models(axis))
    return copy.deepcopy(_datasets() if axis == "dataset" else _axes()[axis])


def load_dataset(dataset: str) -> dict[str, Any]:
    """A dataset's definition, by its name in ``configs/datasets`` or from a YAML file.

    Raises:
        UserError: unknown name, unreadable file, unknown or missing key.
    """
    known = axis_values("dataset")
    is_file = str(dataset).endswith((".yaml", ".yml"))
    found = read_yaml(dataset) if is_file else pick("dataset", dataset, known)
    source = found.get("source") if isinstance(found, dict) else None
    if source not in ("demo", "files"):
        raise UserError(f"dataset {dataset}: key 'source' must be demo or files")
    own = ("draw",) if source == "demo" else ("train", "val")
    _check_keys(dataset, found, ("source", *own, *_SETTINGS), _DATASET_DEFAULTS)
    for key in own:
        needed, optional = ((), _DRAW) if source == "demo" else (_SPLIT, ())
        _check_keys(f"{dataset}, {key}", found[key], needed, optional)
    _check_names(found)
    return {**_DATASET_DEFAULTS, **found}


def _check_keys(where: str, found: Any, needed: Iterable[str], optional: Iterable[str]) -> None:
    allowed = [*needed, *optional]
    if not isinstance(found, dict):
        raise UserError(f"dataset {where}: expected the keys {choices(allowed)}")
    for key in found:
        if key not in allowed:
            raise UserError(f"dataset {where}: unknown key '{key}'; allowed: {choices(allowed)}")
    for key in needed:
        if key not in found:
            raise UserError(f"dataset {where}: key '{key}' is missing")
    for key, value in found.items():
        check, expected = _VALUES.get(key, (None, ""))
        if check and not check(value):
            raise UserError(f"dataset {where}: key '{key}' must be {expected}, not {value!r}")


def _check_names(found: Mapping[str, Any]) -> None:
    """Checks what a dataset names elsewhere, in modules that most callers need not import."""
    if found.get("download"):
        for name in found["download"]:
            pick("download", name, raw.downloads())
    if found.get("statistics") is not None:
        from gol.losses.class_statistics import PUBLISHED

        pick("statistics", found["statistics"], dict.fromkeys(PUBLISHED))
        if found.get("num_classes") is None:
            raise UserError("a dataset with the key 'statistics' needs the key 'num_classes'")


def check_combination(axes: Mapping[str, str]) -> None:
    """Refuses axis values that make no sense together.

    Raises:
        UserError: with the reason and what is allowed instead.
    """
    if axes["detector"] == "faster_rcnn":
        for axis in ("mask_predictor", "masks"):
            only = DEFAULT_AXES[axis]
            if axes[axis] != only:
                raise UserError(
                    f"{axis} {axes[axis]} with detector faster_rcnn, which has no masks; "
                    f"allowed: {axis} {only}, or a detector with masks"
                )


def split_files(dataset: Mapping, split: str, prepared: str | Path) -> tuple[Path, Path]:
    """A split's raw annotation file and image folder; a demo is drawn below ``prepared``."""
    if dataset["source"] == "demo":
        raw = Path(prepared) / "raw"
        return raw / f"{split}.json", raw / split
    return Path(dataset[split]["annotations"]), Path(dataset[split]["images"])


def dataset_downloads(dataset: str) -> list[str]:
    """Names of the downloads that a dataset is made of.

    Raises:
        UserError: no such dataset, or it is not made of downloads.
    """
    names = load_dataset(dataset)["download"]
    if not names:
        raise UserError(f"dataset {dataset} has no key 'download': its files are your own")
    return names


def image_proofs(dataset: str) -> list[str]:
    """The markers of the image folders that a dataset downloads; none for other datasets."""
    entries = [raw.downloads()[name] for name in load_dataset(dataset)["download"]]
    return [str(raw.proof(entry)) for entry in entries if "images" in entry]
