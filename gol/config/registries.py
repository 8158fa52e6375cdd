"""The classes that a config may name, and what they can be told.

mmcv is imported for the optimizer and the learning rate, mmdet for the detector.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

#: They want a closure, sparse gradients or matrices alone.
_UNFIT = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
#: They call what another package has under a name, or a camera.
_FOREIGN = ("Albu", "Corrupt", "InstaBoost", "LoadImageFromWebcam")


def arguments(config: dict[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    """What the class that a part of a config names can be told: argument to its default.

    Args:
        config: plain content of a resolved config.
        path: keys that lead to the part.

    Returns:
        Nothing for a part that names no class, or one that takes whatever it is given.
    """
    place: Any = config
    for part in path:
        place = place.get(part) or {} if isinstance(place, dict) else {}
    if path == ("optimizer",):
        return {**_signature(optimizers().get(place.get("type"))), "paramwise_cfg": None}
    if path == ("lr_config",):
        return _signature(policies().get(place.get("policy")))
    if path[:1] == ("model",) and not {"train_cfg", "test_cfg"} & set(path) and "type" in place:
        return _signature(registered(place["type"]))
    return {}


def types(path: tuple[str, ...], present: str) -> list[str]:
    """The names that may take the place of ``present``, which is a ``type`` or ``policy``."""
    if path == ("optimizer", "type"):
        return list(optimizers())
    if path == ("lr_config", "policy"):
        return list(policies())
    if path == ("model", "type"):
        return detectors()
    found = registered(present) if path[0] == "model" and path[-2] != "nms" else None
    if found is None:
        return [present]  # nothing but this one, or a name that mmcv would evaluate
    package = found.__module__.rpartition(".")[0]
    return [
        name
        for registry in _registries()
        for name, other in registry.module_dict.items()
        if other.__module__.rpartition(".")[0] == package
    ]


@contextmanager
def _mmcv() -> Iterator[None]:
    """Imports mmcv quietly, and without what it does not need."""
    from gol.compat import quiet
    from gol.compat.deferred import deferred_imports

    quiet()
    with deferred_imports():
        yield


@cache
def optimizers() -> dict[str, type]:
    """Name of an optimizer to its class."""
    with _mmcv():
        from mmcv.runner.optimizer import OPTIMIZERS

    return {name: cls for name, cls in OPTIMIZERS.module_dict.items() if name not in _UNFIT}


@cache
def policies() -> dict[str, type]:
    """Name of a policy, as mmcv's configs spell it, to its hook."""
    with _mmcv():
        from mmcv.runner.hooks import HOOKS

    hooks = {name.removesuffix("LrUpdaterHook"): hook for name, hook in HOOKS.module_dict.items()}
    hooks = {n: hook for n, hook in hooks.items() if n and f"{n}LrUpdaterHook" in HOOKS.module_dict}
    return {**{name.lower(): hook for name, hook in hooks.items() if name.istitle()}, **hooks}


@cache
def _registries() -> tuple[Any, ...]:
    """mmdet's registries of what a detector is made of."""
    import gol.models  # noqa: F401  (registers ours)

    # isort: split
    from mmdet.core.anchor.builder import PRIOR_GENERATORS
    from mmdet.core.bbox.builder import BBOX_ASSIGNERS, BBOX_CODERS, BBOX_SAMPLERS
    from mmdet.models.builder import MODELS

    return MODELS, PRIOR_GENERATORS, BBOX_CODERS, BBOX_ASSIGNERS, BBOX_SAMPLERS


@cache
def detectors() -> list[str]:
    """mmdet's two-stage detectors; some others execute a file that they are given."""
    models = _registries()[0]
    from mmdet.models.detectors import TwoStageDetector

    return [name for name, cls in _classes(models) if issubclass(cls, TwoStageDetector)]


@cache
def detector_parts() -> frozenset[str]:
    """What a detector is made of, down to its layers."""
    from mmcv.cnn.bricks import registry as layers
    from mmdet.core.bbox.iou_calculators.builder import IOU_CALCULATORS
    from mmdet.models.detectors import BaseDetector
    from mmdet.models.utils.builder import LINEAR_LAYERS

    models, *others = _registries()
    others += [IOU_CALCULATORS, LINEAR_LAYERS, layers.CONV_LAYERS, layers.NORM_LAYERS]
    others += [layers.ACTIVATION_LAYERS, layers.PADDING_LAYERS, layers.UPSAMPLE_LAYERS]
    others += [layers.PLUGIN_LAYERS, layers.DROPOUT_LAYERS]
    whole = {name for name, cls in _classes(models) if issubclass(cls, BaseDetector)}
    return frozenset(name for each in (models, *others) for name in each.module_dict) - whole


def _classes(registry: Any) -> list[tuple[str, type]]:
    """Without the functions that stand for the losses of other packages."""
    return [pair for pair in registry.module_dict.items() if isinstance(pair[1], type)]


@cache
def initializers() -> list[str]:
    """How a part's first weights may be drawn; without those that are read from a file."""
    with _mmcv():
        from mmcv.cnn.utils.weight_init import INITIALIZERS

    return [name for name in INITIALIZERS.module_dict if name != "Pretrained"]


@cache
def transforms() -> list[str]:
    """What mmdet can do with an image."""
    import gol.models  # noqa: F401  (patches mmdet, which cannot be imported before)

    # isort: split
    from mmdet.datasets import PIPELINES

    return [name for name in PIPELINES.module_dict if name not in _FOREIGN]


def registered(name: Any) -> type | None:
    """mmdet's class of that name, of which a part of a detector is built."""
    found = (registry.module_dict.get(name) for registry in _registries())
    return next((cls for cls in found if cls), None)


def _signature(cls: type | None) -> dict[str, Any]:
    """Argument to default, also of the classes that take what a class passes on."""
    found: dict[str, Any] = {}
    for base in cls.__mro__ if cls else ():
        if "__init__" not in vars(base) or base is object:
            continue
        parameters = inspect.signature(base.__init__).parameters.values()
        for parameter in list(parameters)[1:]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
                default = None if parameter.default is parameter.empty else parameter.default
                found.setdefault(parameter.name, default)
        if not any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
            break
    found.pop("params", None)  # an optimizer's parameters
    return found
