"""Changes to a resolved config, typed at the door.

``gol config --set``, a pipeline's ``set`` and Snakemake's ``--config 'set={...}'`` (which delivers
text) all come through :func:`apply_overrides`: a value must fit the type and the range of what it
replaces, and what is built from it must build.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from gol.config.axes import AXES
from gol.config.checks import (
    check_batches,
    check_detector,
    check_optimizer,
    check_schedule,
    check_transforms,
)
from gol.config.fitting import PLAIN, fitting, is_plain, is_type, read_value
from gol.config.parts import check_part, part_keys, part_of, takes_text
from gol.config.registries import arguments
from gol.config.trusted import check_trusted
from gol.errors import UserError, choices, shown, unknown

#: What may not be changed, and why.
_FIXED = {
    "evaluation": "gol validates by gol.validate_every; in the config that it prints for mmdet's "
    "tools the interval follows runner.max_epochs",
    "custom_imports": "every config needs it",
    "data.val": "gol detects on data.test",
    "seed": "it is an option of its own, or key 'seeds' of a pipeline",
    "model.backbone.init_cfg": "the backbone's weights are gol.weights (null: from scratch)",
    **dict.fromkeys(
        ("gol.experiment", "gol.compare", "gol.published", "gol.published_note"),
        "it follows the experiment",
    ),
    **dict.fromkeys(
        ("gol.init.file", "gol.init.url", "gol.init.sha256", "gol.init.bytes"),
        "change the axis init",
    ),
    "gol.precision": "change the axis precision",
    "gol.memory_format": "change the axis precision",
    "model.type": "change the axis detector",
    "gol.axes": "change the axis itself, e.g. backbone",
    "gol.seed": "change the seed itself",
    "gol.scorings": "they follow the axis classifier",
    "gol.statement": "it belongs to the dataset",
    "model.roi_head.bbox_head.loss_cls.type": "it follows the axis classifier",
    "model.roi_head.bbox_head.loss_cls.activation": "it follows the axis classifier",
}
_FIXED_NAMES = {
    "num_classes": "it follows the dataset",
    "class_statistics": "they follow the dataset",
}
#: Where keys are parts of parameters' names.
_ANY_NAME = ("optimizer", "paramwise_cfg", "custom_keys")

Path = tuple[str, ...]


def read_setting(text: str) -> tuple[str, Any]:
    """Key and value of a ``KEY=VALUE``.

    Raises:
        UserError: it is not one, or the value is neither JSON nor YAML.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {shown(text)}: expected KEY=VALUE")
    text_wanted = takes_text(tuple(key.split(".")))
    try:
        read = read_value(value, key)
    except UserError:
        if text_wanted:
            return key, value
        raise
    return key, read if not text_wanted or isinstance(read, str | None) else value


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
    changed: set[Path] = set()
    for key in overrides:
        if not isinstance(key, str):
            raise UserError(f"override {shown(key)}: expected a dotted key such as optimizer.lr")
    # Types first: they decide which other keys there are.
    for key in sorted(overrides, key=lambda key: not is_type(key.split("."))):
        for path, value in _leaves(config, tuple(key.split(".")), overrides[key]).items():
            _set(config, path, value)
            changed.add(path)
    _check(config, changed)


def _check(config: dict[str, Any], changed: set[Path]) -> None:
    """Checks the parts that were changed, by their models and by building them."""
    for part in dict.fromkeys(filter(None, map(part_of, sorted(changed)))):
        check_part(config, part)
    heads, lasts = {path[0] for path in changed}, {path[-1] for path in changed}
    if "model" in heads or "pipeline" in lasts:
        check_trusted(config)  # before anything is built
    if heads & {"optimizer", "lr_config"}:
        check_optimizer(config["optimizer"])
        rate, runner = config["optimizer"]["lr"], config["runner"]
        check_schedule(config["lr_config"], rate, runner.get("max_epochs"), runner.get("max_iters"))
    if lasts & {"samples_per_gpu", "global_batch"}:
        check_batches(config["data"]["samples_per_gpu"], config["gol"]["global_batch"])
    if "model" in heads:
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
        names = sorted(map(".".join, paths))
        if any(name in str(error) for name in names):
            raise
        raise UserError(f"override {choices(names)}: {error}") from error


def _leaves(config: dict[str, Any], path: Path, value: Any) -> dict[Path, Any]:
    """Every single change; parts that are to be replaced are emptied."""
    key, place = ".".join(path), _place(config, path)
    if isinstance(value, str) and isinstance(place, dict):
        value = read_value(value, key)
    if not isinstance(value, Mapping):
        return {path: value}
    if not is_plain(value):
        raise UserError(f"override {key}: {shown(value)} is not made of {PLAIN}")
    items = {name: item for name, item in value.items() if name != "_delete_"}
    if place is None and not part_keys(path):  # nothing to merge with
        return {path: items}
    place = {} if place is None else place
    if not isinstance(place, dict):
        raise UserError(f"override {key}: expected a value, not {shown(value)}")
    if value.get("_delete_"):
        if not (part_of(path) or arguments(config, path)):
            raise UserError(f"override {key}: it cannot be replaced as a whole; name single keys")
        for name in [name for name in place if name not in ("type", "policy")]:
            del place[name]
    elif not items:
        raise UserError(f"override {key}: expected keys ({choices(place or part_keys(path))})")
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
        if depth and place is None and part_keys(path[:depth]):
            place = {}
        if not isinstance(place, dict):
            kind = "list" if isinstance(place, list | tuple) else type(place).__name__
            raise UserError(f"override {'.'.join(path)}: {where} is a {kind} and has no keys")
        _refuse_fixed(path, depth + 1)
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
    place[last] = fitting(path, value, "" if present is None and takes_text(path) else present)
