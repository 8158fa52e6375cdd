"""Changes to a resolved config, typed at the door.

``gol config --set``, a pipeline's ``set`` and Snakemake's ``--config 'set={...}'`` (which delivers
text) all come through :func:`apply_overrides`: a value must fit the type and the range of what it
replaces, and what is built from it must build.
"""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gol.config.axes import AXES
from gol.config.checks import (
    arguments,
    check_batches,
    check_detector,
    check_optimizer,
    check_schedule,
    check_transforms,
    types,
)
from gol.config.parts import check_part, part_keys, part_of
from gol.errors import UserError, choices, shown, unknown
from gol.files import parse_yaml

#: What may not be changed, and why.
_FIXED = {
    "evaluation": "gol scores after the last epoch; in the config that it prints for mmdet's tools "
    "the interval follows runner.max_epochs",
    "custom_imports": "every config needs it",
    "data.val": "gol detects on data.test",
    "seed": "it is an option of its own, or key 'seeds' of a pipeline",
    "model.backbone.init_cfg": "the backbone's weights are gol.weights (null: from scratch)",
    **dict.fromkeys(
        ("gol.experiment", "gol.compare", "gol.published", "gol.published_note"),
        "it follows the experiment",
    ),
    "gol.axes": "change the axis itself, e.g. backbone",
    "gol.seed": "change the seed itself",
    "gol.scorings": "they follow the axis classifier",
    "gol.statement": "it belongs to the dataset",
    "model.roi_head.bbox_head.loss_cls.type": "it follows the axis classifier",
}
_FIXED_NAMES = {
    "num_classes": "it follows the dataset",
    "class_statistics": "they follow the dataset",
}
#: Parts that may be left out (null), though there is something.
_OPTIONAL = ("gol.weights", "optimizer_config.grad_clip", "lr_config.warmup")
_FREE = ("bias", "val", "target_means")  # of either sign
_REAL = ("tempearture", "mlp_ratio", "finest_scale", "min_lr")  # though they may be written whole
_LEAST = {"frozen_stages": -1, "sampling_ratio": 0}
_SHARE = re.compile(r"(thr|threshold|iou|fraction|flip_ratio|drop_path_rate|binary|momentum)$")
_MOST = 2**31 - 1
_PLAIN = f"finite numbers (at most {_MOST}) and texts"
#: Where keys are parts of parameters' names.
_ANY_NAME = ("optimizer", "paramwise_cfg", "custom_keys")
_NMS = ("nms", "nms_cfg")
_LONGEST = 10_000  # characters of a value that is not JSON

Path = tuple[str, ...]


def read_setting(text: str) -> tuple[str, Any]:
    """Key and value of a ``KEY=VALUE``.

    Raises:
        UserError: it is not one, or the value is neither JSON nor YAML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {shown(text)}: expected KEY=VALUE")
    return key, read_value(value, key)


def read_value(text: str, key: str) -> Any:
    """The value of a text, as JSON or else YAML says it; 1e-3 is a number in both.

    Raises:
        UserError: it is neither, or YAML with anchors.
    """
    import yaml

    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        # PyYAML takes quadratic time for what is nested deeply.
        tokens = {type(token) for token in yaml.scan(text if len(text) < _LONGEST else "]")}
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"override {key}: {shown(text)} is neither JSON nor YAML") from error
    if tokens & {yaml.AliasToken, yaml.AnchorToken}:
        raise UserError(f"override {key}: {shown(text)} has YAML anchors (& and *): not allowed")
    if re.fullmatch(r"[-+]?\d+[eE]\d+", text):
        return float(text)
    try:
        return parse_yaml(text, "")
    except UserError as error:
        raise UserError(f"override {key}: {shown(text)} is neither JSON nor YAML") from error


def apply_overrides(config: dict[str, Any], overrides: Mapping[str, Any]) -> None:
    """Changes a resolved config in place.

    Args:
        config: its plain content.
        overrides: dotted key to value, or to the text of one; a mapping changes the keys that it
            names, with ``_delete_: true`` it takes the place of all of them.

    Raises:
        UserError: an unknown key, a value of another type or out of range, arguments that nothing
            can be built from; in one line, with what is allowed.
    """
    changed: dict[Path, Any] = {}
    for key, value in overrides.items():
        if not isinstance(key, str):
            raise UserError(f"override {shown(key)}: expected a dotted key such as optimizer.lr")
        changed |= _leaves(config, tuple(key.split(".")), value)
    for path in sorted(changed, key=lambda path: not _is_type(path)):
        _set(config, path, changed[path])  # types first: they decide which other keys there are
    _check(config, set(changed))


def _check(config: dict[str, Any], changed: set[Path]) -> None:
    """Checks the parts that were changed, by their models and by building them."""
    for part in dict.fromkeys(filter(None, map(part_of, sorted(changed)))):
        check_part(config, part)
    heads, lasts = {path[0] for path in changed}, {path[-1] for path in changed}
    if heads & {"optimizer", "lr_config"}:
        check_optimizer(config["optimizer"])
        rate, epochs = config["optimizer"]["lr"], config["runner"]["max_epochs"]
        check_schedule(config["lr_config"], rate, epochs)
    if lasts & {"samples_per_gpu", "global_batch"}:
        check_batches(config["data"]["samples_per_gpu"], config["gol"]["global_batch"])
    if "model" in heads:
        _refuse_evaluated(config["model"])
        with _naming(path for path in changed if path[0] == "model"):
            check_detector(config["model"])
    if "pipeline" in lasts:
        check_transforms(config["data"])


@contextmanager
def _naming(paths: Iterable[Path]) -> Iterator[None]:
    """Says which overrides the detector does not go with."""
    try:
        yield
    except UserError as error:
        raise UserError(f"override {choices(sorted(map('.'.join, paths)))}: {error}") from error


def _refuse_evaluated(part: Any) -> None:
    """mmcv evaluates the type of a non-maximum suppression as Python code."""
    if isinstance(part, dict):
        for key, value in part.items():
            kind = value.get("type", "nms") if key in _NMS and isinstance(value, dict) else "nms"
            if kind != "nms":
                raise unknown("type", kind, ["nms"], key)
            _refuse_evaluated(value)
    elif isinstance(part, list | tuple):
        for value in part:
            _refuse_evaluated(value)


def _is_type(path: Path) -> bool:
    return path[-1] in ("type", "policy")


def _leaves(config: dict[str, Any], path: Path, value: Any) -> dict[Path, Any]:
    """Every single change; parts that are to be replaced are emptied."""
    key, place = ".".join(path), _place(config, path)
    if isinstance(value, str) and isinstance(place, dict):
        value = read_value(value, key)
    if not isinstance(value, Mapping):
        return {path: value}
    if not _is_plain(value):
        raise UserError(f"override {key}: {shown(value)} is not made of {_PLAIN}")
    items = {name: item for name, item in value.items() if name != "_delete_"}
    if place is None:  # nothing to merge with
        return {path: items}
    if not isinstance(place, dict):
        raise UserError(f"override {key}: expected a value, not {shown(value)}")
    if value.get("_delete_"):
        if not (part_of(path) or path[0] in ("optimizer", "lr_config") or "type" in place):
            raise UserError(f"override {key}: it cannot be replaced as a whole; name single keys")
        for name in [name for name in place if name not in ("type", "policy")]:
            del place[name]
    elif not items:
        raise UserError(f"override {key}: expected keys ({choices(place)})")
    # The class decides which other keys there are.
    for name in sorted(items, key=lambda name: name not in ("type", "policy")):
        if name in ("type", "policy") and name in place:
            _set(config, (*path, name), items[name])
    return {
        leaf: found
        for name, item in items.items()
        for leaf, found in _leaves(config, (*path, name), item).items()
    }


def _place(config: dict[str, Any], path: Path) -> Any:
    """What stands at a key; None for one that is not there and may be."""
    place: Any = config
    for depth, name in enumerate(path):
        where = ".".join(path[:depth])
        _refuse_fixed(path, depth + 1)
        if depth and place is None and part_keys(path[:depth]):
            place = {}
        if not isinstance(place, dict):
            kind = "list" if isinstance(place, list | tuple) else type(place).__name__
            raise UserError(f"override {'.'.join(path)}: {where} is a {kind} and has no keys")
        if name not in place and path[:depth] != _ANY_NAME:
            known = [name for name in place if name not in _FIXED]
            known = [*AXES, "seed", *known] if depth == 0 else [*place]
            known += [name for name in _known(config, path[:depth]) if name not in known]
            if name not in known:
                raise unknown("key", name, known, where or "the config")
        place = place.get(name)
    return place


def _known(config: dict[str, Any], path: Path) -> list[str]:
    """The keys that may stand in a part besides those that do."""
    return [*part_keys(path), *arguments(config, path)] if path else []


def _refuse_fixed(path: Path, depth: int) -> None:
    """Refuses a key whose first ``depth`` parts name what may not be changed."""
    reason = _FIXED.get(".".join(path[:depth])) or _FIXED_NAMES.get(path[depth - 1])
    if reason:
        raise UserError(f"override {'.'.join(path)}: it cannot be changed: {reason}")


def _set(config: dict[str, Any], path: Path, value: Any) -> None:
    place: Any = config
    for name in path[:-1]:
        if place.get(name) is None:
            place[name] = {}
        place = place[name]
    last = path[-1]
    present = place[last] if last in place else arguments(config, path[:-1]).get(last)
    place[last] = _fitting(path, value, present)


def _fitting(path: Path, value: Any, present: Any) -> Any:
    """The value in the type of what it replaces."""
    key = ".".join(path)
    if isinstance(value, str) and not isinstance(present, str):
        value = read_value(value, key)
    if not _is_plain(value):
        raise UserError(f"override {key}: {shown(value)} is not made of {_PLAIN}")
    if present is None or (value is None and key in _OPTIONAL):
        return value
    if isinstance(present, dict):
        raise UserError(f"override {key}: expected keys ({choices(present)}), not {shown(value)}")
    if part_of(path):  # its model says more than what is there
        return value
    if _is_type(path):
        return _fitting_type(path, value, present)
    if key == "lr_config.step" and not isinstance(value, list):
        present = 1  # mmcv takes an interval too
    if isinstance(present, list | tuple):
        return _fitting_list(path, value, present)
    expected = _expectation(path[-1], value, present)
    if expected:
        raise UserError(f"override {key}: must be {expected}, not {shown(value)}")
    return value


def _fitting_type(path: Path, value: Any, present: str) -> str:
    allowed = types(path, present)
    if value != present and (not isinstance(value, str) or value not in allowed):
        # mmcv takes Step for step; to be told one of them is enough.
        once = [name for name in allowed if name.islower() or name.lower() not in allowed]
        raise unknown(".".join(path), value, once)
    return value


def _fitting_list(path: Path, value: Any, present: list | tuple) -> list:
    key, example = ".".join(path), shown(list(present))
    if not isinstance(value, list | tuple) or (present and not value):
        raise UserError(f"override {key}: must be a list such as {example}, not {shown(value)}")
    kinds = {type(item) for item in present}
    if not kinds <= {int, float, str, bool}:
        if any(not isinstance(item, Mapping) for item in value):
            raise UserError(f"override {key}: must be a list of objects, not {shown(value)}")
        return list(value)
    if not present:
        return list(value)
    like = float(present[0]) if kinds == {int, float} else present[0]
    return [_fitting((*path, str(i)), item, like) for i, item in enumerate(value)]


def _expectation(name: str, value: Any, present: Any) -> str:
    """What a single value has to be; empty if it is."""
    if isinstance(present, bool):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(present, str):
        return "" if isinstance(value, str) and value else f"a text such as {shown(present)}"
    whole = isinstance(present, int) and present != 0 and name not in _REAL
    least: float | None = 1 if whole else 0
    if present < 0 or name in _FREE:
        least = None
    least, most = _LEAST.get(name, least), 1 if _SHARE.search(name) and present >= 0 else _MOST
    kinds = int if whole else int | float
    if (
        isinstance(value, kinds)
        and not isinstance(value, bool)
        and (least is None or value >= least)
        and abs(value) <= most
    ):
        return ""
    span = "" if least is None else f" from {least} to {most}"
    return f"a{' whole' if whole else ''} number{span}"


def _is_plain(value: Any) -> bool:
    """Whether JSON can hold the value."""
    if isinstance(value, Mapping):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):  # a bool is one
        return abs(value) <= _MOST
    return isinstance(value, str) or value is None
