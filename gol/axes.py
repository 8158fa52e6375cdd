"""The axes of an experiment and their values, as ``configs/`` states them.

Each value lives in one place: ``configs/models`` (a file a detector or backbone),
``configs/datasets`` (a file a dataset) or ``configs/axes.yaml``; ``configs/experiments.yaml``
names one value for each axis.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from gol.errors import UserError, choices

DEFAULT_AXES = {
    "detector": "mask_rcnn",
    "layer": "linear",
    "mask_predictor": "conv",
    "sampler": "random",
}
AXES = (
    "detector",
    "backbone",
    "classifier",
    "layer",
    "mask_predictor",
    "sampler",
    "schedule",
    "dataset",
)
_SOURCE_KEYS = {"demo": ["draw"], "files": ["train", "val"]}
_DATASET_DEFAULTS = {
    "num_classes": None,
    "statistics": None,
    "thresholds": [10, 100],
    "decode": True,
    "drop_bad": False,
}
_DATASET_KEYS = {
    "source",
    "draw",
    "train",
    "val",
    "statement",
    "image_scales",
    "normalize",
    "pad",
    "repeat_threshold",
    "rare_frequency",
    *_DATASET_DEFAULTS,
}


def configs_folder() -> Path:
    """The folder ``configs``: beside the package in a checkout, inside it when installed."""
    package = Path(__file__).resolve().parent
    return next(path for path in (package.parent / "configs", package / "configs") if path.is_dir())


def read_yaml(path: str | Path) -> Any:
    """Reads a YAML file with the safe loader.

    Raises:
        UserError: the file is missing or no YAML.
    """
    try:
        return yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from error


@cache
def _table() -> dict[str, dict]:
    return read_yaml(configs_folder() / "experiments.yaml")


@cache
def _models(kind: str) -> dict[str, dict]:
    files = sorted((configs_folder() / "models").glob("*.yaml"))
    return {f.stem: content for f in files if (content := read_yaml(f))["kind"] == kind}


def experiments() -> list[str]:
    """Names of all experiments, in the order of ``configs/experiments.yaml``."""
    return list(_table())


def experiment_entry(name: str) -> dict[str, Any]:
    """The experiment's label, its axes (all of them) and the published numbers beside it or None.

    Raises:
        UserError: there is no experiment of this name.
    """
    entry = pick("experiment", name, _table())
    published = _table()[entry["compare"]] if "compare" in entry else entry
    return {
        "label": entry["label"],
        "axes": {**DEFAULT_AXES, **entry["axes"]},
        "published": published.get("published"),
    }


def axis_values(axis: str) -> dict[str, Any]:
    """All values of one axis: name to definition."""
    if axis in ("detector", "backbone"):
        return _models(axis)
    if axis == "dataset":
        files = sorted((configs_folder() / "datasets").glob("*.yaml"))
        return {file.stem: read_yaml(file) for file in files}
    return read_yaml(configs_folder() / "axes.yaml")[axis]


def load_dataset(dataset: str) -> dict[str, Any]:
    """A dataset's definition, by its name in ``configs/datasets`` or from a YAML file.

    Raises:
        UserError: unknown name, unreadable file, unknown or missing key.
    """
    known = axis_values("dataset")
    is_file = str(dataset).endswith((".yaml", ".yml"))
    found = read_yaml(dataset) if is_file else pick("dataset", dataset, known)
    if not isinstance(found, dict):
        raise UserError(
            f"{dataset} is no dataset: expected the keys {choices(sorted(_DATASET_KEYS))}"
        )
    for key in found:
        if key not in _DATASET_KEYS:
            allowed = choices(sorted(_DATASET_KEYS))
            raise UserError(f"unknown key '{key}' in dataset {dataset}; allowed: {allowed}")
    if found.get("source") not in _SOURCE_KEYS:
        raise UserError(f"dataset {dataset}: source must be one of {choices(_SOURCE_KEYS)}")
    for key in _SOURCE_KEYS[found["source"]]:
        if key not in found:
            raise UserError(f"dataset {dataset}: key '{key}' is missing")
    return {**_DATASET_DEFAULTS, **found}


def split_files(dataset: Mapping, split: str, prepared: str | Path) -> tuple[Path, Path]:
    """A split's raw annotation file and image folder; a demo is drawn below ``prepared``."""
    if dataset["source"] == "demo":
        raw = Path(prepared) / "raw"
        return raw / f"{split}.json", raw / split
    return Path(dataset[split]["annotations"]), Path(dataset[split]["images"])


def pick(kind: str, name: Any, allowed: Mapping[str, Any]) -> Any:
    """The value of ``name``; a UserError lists the allowed names if there is none."""
    if name not in allowed:
        raise UserError(f"unknown {kind} '{name}'; allowed: {choices(allowed)}")
    return allowed[name]
