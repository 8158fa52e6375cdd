"""Values: read from text, and held against the type and the range of what they replace."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from gol.config.parts import part_of
from gol.config.registries import types
from gol.errors import UserError, choices, shown, unknown
from gol.files import parse_yaml

#: Parts that may be left out (null), though there is something.
_OPTIONAL = ("gol.weights", "optimizer_config.grad_clip", "lr_config.warmup")
_FREE = ("bias", "val", "target_means")  # of either sign
_REAL = ("tempearture", "mlp_ratio", "finest_scale", "min_lr")  # though they may be written whole
_LEAST = {"frozen_stages": -1, "sampling_ratio": 0}
_SHARE = re.compile(r"(thr|threshold|iou|fraction|flip_ratio|drop_path_rate|binary|momentum)$")
_MOST = 2**31 - 1
_LEVELS = 20
PLAIN = f"finite numbers (at most {_MOST}) and texts, in at most {_LEVELS} levels"
_LONGEST = 10_000  # characters of a value that is not JSON


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


def is_type(path: Sequence[str]) -> bool:
    """Whether a key names the class that its part is built of."""
    return path[-1] in ("type", "policy")


def fitting(path: tuple[str, ...], value: Any, present: Any) -> Any:
    """The value in the type of what it replaces.

    Args:
        path: the keys that lead to it.
        value: what was given; a text is read unless a text is wanted.
        present: what stands there now; None if that says nothing.

    Raises:
        UserError: another type, out of range, or a name that nothing is registered under.
    """
    key = ".".join(path)
    read = not isinstance(present, str) and (present is None or isinstance(value, str))
    if read and is_plain(value):
        value = _typed(value, key)
    if not is_plain(value):
        raise UserError(f"override {key}: {shown(value)} is not made of {PLAIN}")
    if present is None or (value is None and key in _OPTIONAL):
        return value
    if isinstance(present, dict):
        raise UserError(f"override {key}: expected keys ({choices(present)}), not {shown(value)}")
    if part_of(path):  # its model says more than what is there
        return value
    if is_type(path):
        return _fitting_type(path, value, present)
    if key == "lr_config.step" and not isinstance(value, list):
        present = 1  # mmcv takes an interval too
    if isinstance(present, list | tuple):
        return _fitting_list(path, value, present)
    expected = _expectation(path[-1], value, present)
    if expected:
        raise UserError(f"override {key}: must be {expected}, not {shown(value)}")
    return value


def _typed(value: Any, key: str) -> Any:
    """The value with numbers instead of the texts that Snakemake's command line makes of them."""
    if isinstance(value, str):
        return read_value(value, key)
    if isinstance(value, Mapping):
        return {name: _typed(item, key) for name, item in value.items()}
    return [_typed(item, key) for item in value] if isinstance(value, list | tuple) else value


def _fitting_type(path: tuple[str, ...], value: Any, present: str) -> str:
    allowed = types(path, present)
    if value != present and (not isinstance(value, str) or value not in allowed):
        # mmcv takes Step for step; to be told one of them is enough.
        once = [name for name in allowed if name.islower() or name.lower() not in allowed]
        raise unknown(".".join(path), value, once)
    return value


def _fitting_list(path: tuple[str, ...], value: Any, present: list | tuple) -> list:
    key, example = ".".join(path), shown(list(present))
    is_list = isinstance(value, list | tuple) and (value or not present)
    if not is_list or (path[0] == "optimizer" and len(value) != len(present)):  # as betas
        raise UserError(f"override {key}: must be a list such as {example}, not {shown(value)}")
    kinds = {type(item) for item in present}
    if not kinds <= {int, float, str, bool}:
        if any(not isinstance(item, Mapping) for item in value):
            raise UserError(f"override {key}: must be a list of objects, not {shown(value)}")
        return _typed(value, key)
    if not present:
        return _typed(value, key)
    like = float(present[0]) if kinds == {int, float} else present[0]
    return [fitting((*path, str(i)), item, like) for i, item in enumerate(value)]


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
    if name == "lr":  # 0 is refused with the optimizer
        span = f" above 0 and at most {most}"
    return f"a{' whole' if whole else ''} number{span}"


def is_plain(value: Any, levels: int = _LEVELS) -> bool:
    """Whether JSON can hold the value, and nothing lies deeper in it than ``levels``."""
    if isinstance(value, Mapping):
        inside = levels > 0 and all(isinstance(key, str) for key in value)
        return inside and all(is_plain(item, levels - 1) for item in value.values())
    if isinstance(value, list | tuple):
        return levels > 0 and all(is_plain(item, levels - 1) for item in value)
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):  # a bool is one
        return abs(value) <= _MOST
    return isinstance(value, str) or value is None
