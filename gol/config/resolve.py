"""Axes in, one resolved mmdet config out."""

import copy
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gol.config.axes import AXES, scorings
from gol.config.datasets import AUTO, load_dataset
from gol.config.detector import (
    class_statistics,
    detector_config,
    mmcv_config,
    mmdet_config,
    set_heads,
    settled,
)
from gol.config.experiments import experiment
from gol.config.leaves import check_leaves
from gol.config.overrides import apply_overrides
from gol.config.own import Own, own_part
from gol.config.python_file import python_text
from gol.config.transforms import set_data
from gol.config.trusted import CUSTOM_IMPORTS, check_trusted
from gol.data.constants import iterations
from gol.data.prepared import Prepared
from gol.data.store import file_digest
from gol.errors import UserError, shown, validated
from gol.files import read_json, remove, write_json
from gol.files.digests import sha256
from gol.run_folder import RunFolder
from gol.sources.weights import fetch_weights

#: Keys of a resolved config whose override makes another training, or chooses other weights of it.
_TRAINING = (
    *("model", "optimizer", "lr_config", "runner", "fp16", "gol.global_batch", "gol.base"),
    *("gol.validate_every", "gol.patience"),
)


def load_experiment(
    name: str, overrides: Mapping[str, Any] | None = None, prepared: str | Path | None = None
) -> Any:
    """Resolves an experiment.

    Args:
        name: one of ``experiments()``, or ``NAME@ROW`` for a row of its own.
        overrides: axis values (``backbone``, ``dataset`` …), ``seed``, or dotted keys of the
            resolved config such as ``optimizer.lr``, as ``gol.config.overrides`` reads them.
            ``dataset`` may be a YAML file too.
        prepared: folder with ``train.store``, ``val.store`` and ``classes.json`` of the dataset, as
            written by ``gol preprocess``; default ``results/<dataset>/data/<dataset>``.

    Returns:
        mmcv ``Config`` that mmdet's own tools accept too; its key ``gol`` holds what is ours.

    Raises:
        UserError: unknown experiment, axis value or config key, or a value that does not fit, with
            what is allowed.
    """
    entry, overrides = experiment(name), dict(overrides or {})
    chosen = {axis: overrides.pop(axis) for axis in AXES if axis in overrides}
    axes = entry.axes.model_copy(update=chosen)
    trained = entry.axes.model_copy(update={"calibration": axes.calibration})
    other = axes != trained or any(str(key).startswith(_TRAINING) for key in overrides)
    seed = overrides.pop("seed", 0)
    if type(seed) is not int or not 0 <= seed < 2**31:
        raise UserError(f"seed is {shown(seed)}; allowed: whole numbers from 0 to {2**31 - 1}")
    values, dataset = axes.definitions(), load_dataset(axes.dataset)
    stem = Path(axes.dataset).stem
    prepared = Prepared(Path(prepared or Path("results") / stem / "data" / stem))

    statistics = class_statistics(dataset, axes.dataset, prepared)
    dataset, constants = settled(dataset, axes.dataset, prepared)
    if values["schedule"].get("max_iters") == AUTO:
        values["schedule"]["max_iters"] = iterations(constants, values["schedule"]["base_batch"])

    config = detector_config(values["detector"], values["backbone"])
    set_heads(config.model, values, dataset, statistics)
    set_data(config, values, dataset, prepared)
    _set_schedule(config, values)
    config.custom_imports = copy.deepcopy(CUSTOM_IMPORTS)
    config.seed = seed
    own = {
        **_own_defaults(values, axes.calibration),
        "experiment": name,
        "label": entry.label,
        "axes": axes.model_dump(),
        # the published numbers are another experiment's
        "compare": entry.compare or (name if other and "@" not in name else None),
        "published": entry.published,
        "published_note": entry.published_note,
        "seed": seed,
        "statement": dataset.statement,
    }
    config.gol = validated(Own, own).model_dump(exclude_unset=True)
    plain = config._cfg_dict.to_dict()
    apply_overrides(plain, overrides)
    return type(config)(plain)


def _own_defaults(values: Mapping[str, Any], calibration: str) -> dict[str, Any]:
    """What the key ``gol`` holds of the axes' values, and of its own."""
    init = {"init": values["init"]} if values["init"] else {}
    precision = {k: v for k, v in values["precision"].items() if k == "memory_format"}
    return {
        **init,
        **precision,
        "scorings": scorings(values["classifier"]["scorings"], calibration),
        "base_batch": values["schedule"]["base_batch"],
        "global_batch": values["schedule"]["base_batch"],
        "precision": values["precision"]["dtype"],
        "weights": None if init else values["backbone"].get("weights"),
        "checkpoint_interval": 500,
        "checkpoint_minutes": 15,
        "threads": 1,
    }


def pin_init(config: Any) -> None:
    """Fetches the detector that training starts from, if any, and enters the whole digest.

    Raises:
        UserError: the file is not there and cannot be fetched.
    """
    if init := config.gol.get("init"):
        init.sha256 = sha256(fetch_weights(init, "--init"))


def save_config(config: Any, run: Path, changes: Mapping[str, Any] | None = None) -> None:
    """Writes a resolved config as ``config.json`` into a run folder.

    Args:
        config: mmcv ``Config``.
        run: the folder.
        changes: what was asked for besides the experiment, kept beside it for people; None leaves
            what is there.
    """
    folder = RunFolder(run)
    write_json(folder.config, config._cfg_dict.to_dict(), indent=1, writer="gol config")
    if changes:
        write_json(folder.overrides, dict(changes), indent=1, writer="gol config")
    elif changes is not None:
        remove(folder.overrides)


def python_config(config: Any) -> str:
    """The resolved config as a Python file that stock mmdet 2.x tools read.

    Raises:
        UserError: as :func:`gol.config.python_file.python_text`, or the backbone's weights are
            none that these tools load.
    """
    runtime = mmdet_config("_base_/default_runtime")._cfg_dict.to_dict()
    values = {**runtime, **config._cfg_dict.to_dict()}
    # mmdet's tools score within the training, and would not if it ended before.
    runner = values["runner"]
    values["evaluation"]["interval"] = runner.get("max_epochs") or runner["max_iters"]
    weights = values["gol"]["weights"] or {}
    if weights.get("file"):  # what gol.weights loads here, mmdet's tools load by init_cfg
        init_cfg = {"type": "Pretrained", "checkpoint": weights["file"]}
        values["model"]["backbone"]["init_cfg"] = init_cfg
    elif weights.get("page"):  # they would skip what a file of another program keeps elsewhere
        raise UserError(
            f"backbone {values['gol']['axes']['backbone']} has no weights that mmdet's tools load: "
            "name a file of its state dict by `gol config EXPERIMENT --weights FILE`"
        )
    if init := values["gol"].get("init"):  # these leave out class rows of another number
        values["load_from"] = init.get("file") or init["url"]
    return python_text(values)


def read_config(run: str | Path) -> dict[str, Any]:
    """The plain content of a run folder's resolved config, or of a file of one.

    Raises:
        UserError: the file is missing, truncated or not a resolved config, or lacks what every
            training reads.
    """
    path = _config_file(run)
    content = read_json(path)
    if not isinstance(content, dict) or "gol" not in content:
        raise UserError(f"{path} is not a resolved config: write one with `gol config`")
    check_leaves(content, str(path))
    return content


def load_config(run: str | Path) -> Any:
    """A run folder's resolved config, or a file of one, as an mmcv ``Config``; executes no code.

    Raises:
        UserError: as :func:`read_config`, or its key ``gol`` lacks something, or it names what
            could run code.
    """
    content, path = read_config(run), str(_config_file(run))
    check_trusted(content, path)
    own_part(content, path)
    return mmcv_config()(_tuples(content))


def _config_file(run: str | Path) -> Path:
    return Path(run) if Path(run).is_file() else RunFolder(run).config


def _tuples(value: Any, key: str = "") -> Any:
    """JSON has no tuples, and mmdet tells one image scale (a tuple) from a list of them."""
    if isinstance(value, dict):
        return {name: _tuples(item, name) for name, item in value.items()}
    if isinstance(value, list):
        if key == "img_scale":
            several = bool(value) and all(isinstance(item, list) for item in value)
            return [tuple(item) for item in value] if several else tuple(value)
        return [_tuples(item) for item in value]
    return value


def fingerprint(config: Any) -> str:
    """SHA-256 of a resolved config and the training annotations that it names.

    Two runs with the same fingerprint are the same training, which a calibration does not change.

    Args:
        config: as :func:`load_config` or :func:`read_config` gives it.

    Raises:
        UserError: the annotation file cannot be read.
    """
    values = getattr(config, "_cfg_dict", config)
    own = values["gol"]
    if "calibration" in own["axes"]:
        axes = {axis: value for axis, value in own["axes"].items() if axis != "calibration"}
        plain = [scoring.partition("+")[0] for scoring in own["scorings"]]
        values = {**values, "gol": {**own, "axes": axes, "scorings": plain}}
    content = json.dumps(values, sort_keys=True)
    annotations = file_digest(training_annotations(config))
    return hashlib.sha256(f"{content}{annotations}".encode()).hexdigest()


def training_annotations(config: Any) -> str:
    """The file of the training annotations that a resolved config names."""
    train = config["data"]["train"]
    return train.get("dataset", train)["ann_file"]


def _set_schedule(config: Any, values: Mapping) -> None:
    schedule, fp16 = values["schedule"], values["precision"]["fp16"]
    config.optimizer = schedule["optimizer"]
    config.optimizer_config = {"grad_clip": schedule["grad_clip"]}
    config.lr_config = schedule["lr_config"]
    if length := schedule.get("max_iters"):
        config.runner = {"type": "IterBasedRunner", "max_iters": length}
    else:
        config.runner = {"type": "EpochBasedRunner", "max_epochs": schedule["max_epochs"]}
    kinds = ["bbox", "segm"] if "mask_head" in config.model.roi_head else ["bbox"]
    config.evaluation = {"metric": kinds, "interval": length or schedule["max_epochs"]}
    if fp16:
        config.fp16 = fp16
