"""Whether what a config names can be built: optimizer, learning rate, detector, data pipeline.

Each is built for real from the changed config. mmcv is imported for the optimizer and the learning
rate, mmdet only where the detector or a data pipeline was changed.
"""

import copy
import inspect
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from gol.config.detector import mmcv_config
from gol.errors import UserError, pick, shown, unknown

#: They want a closure, sparse gradients or matrices alone.
_UNFIT = ("Optimizer", "LBFGS", "SparseAdam", "Muon")
_EPOCHS = 1000  # most epochs whose learning rate is looked at


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
        return {**_signature(_optimizers().get(place.get("type"))), "paramwise_cfg": None}
    if path == ("lr_config",):
        return _signature(_policies().get(place.get("policy")))
    if path[:1] == ("model",) and not {"train_cfg", "test_cfg"} & set(path) and "type" in place:
        return _signature(_registered(place["type"]))
    return {}


def types(path: tuple[str, ...], present: str) -> list[str]:
    """The names that may take the place of ``present``, which is a ``type`` or ``policy``."""
    if path == ("optimizer", "type"):
        return list(_optimizers())
    if path == ("lr_config", "policy"):
        return list(_policies())
    found = _registered(present) if path[0] == "model" and path[-2] != "nms" else None
    if found is None:
        return [present]  # nothing but this one, or a name that mmcv would evaluate
    package = found.__module__.rpartition(".")[0]
    return [
        name
        for registry in _registries()
        for name, other in registry.module_dict.items()
        if other.__module__.rpartition(".")[0] == package
    ]


def check_optimizer(optimizer: dict[str, Any]) -> None:
    """Builds the optimizer for a small model and takes a step.

    Raises:
        UserError: an argument is missing, unknown or wrong.
    """
    _check_optimizer(json.dumps(optimizer))


def check_schedule(lr_config: dict[str, Any], lr: float, epochs: int) -> None:
    """Asks for the learning rates of every epoch.

    Raises:
        UserError: an argument is missing, unknown or wrong, or a rate is not a finite number from 0
            on.
    """
    _check_schedule(json.dumps(lr_config), lr, epochs)


def check_detector(model: dict[str, Any]) -> None:
    """Builds the detector, without memory where that goes.

    Raises:
        UserError: what mmdet says.
    """
    import torch

    import gol.models  # noqa: F401  (patches mmdet, which cannot be imported before)

    # isort: split
    from mmdet.models import build_detector

    model = mmcv_config()({"model": model}).model
    _check_depth(model.backbone)
    heads = model["roi_head"]["bbox_head"]
    for head in heads if isinstance(heads, list) else [heads]:
        path = head["loss_cls"].get("class_statistics")
        if path and not Path(path).exists():  # a planned run, whose data are not prepared yet
            head["loss_cls"] = {"type": "GumbelCE", "num_classes": head["num_classes"]}
    with _one_line("model"):
        try:
            with torch.device("meta"):  # shapes alone, no memory and no random numbers
                detector = build_detector(copy.deepcopy(model))
        except Exception:  # Swin computes with tensors while it is built
            detector = build_detector(model)
        with torch.device(next(detector.parameters()).device), torch.no_grad():
            _pass_through(detector.eval())


def _pass_through(detector: Any) -> None:
    """Sends zeros through backbone, neck and heads, each of which must take what it gets."""
    import torch

    features = detector.extract_feat(torch.zeros(1, 3, 256, 256))
    detector.rpn_head(features)
    levels, channels = len(features), features[0].shape[1]
    strides = detector.rpn_head.prior_generator.strides
    if len(strides) != levels:
        raise UserError(f"model: rpn_head has {len(strides)} strides for {levels} feature maps")
    roi_head = detector.roi_head
    for part in ("bbox", "mask") if roi_head.with_mask else ("bbox",):
        extractors, heads = (getattr(roi_head, f"{part}_{x}") for x in ("roi_extractor", "head"))
        pairs = [(extractors, heads)]
        if isinstance(heads, torch.nn.ModuleList):
            pairs = list(zip(extractors, heads, strict=True))
        for extractor, head in pairs:
            if extractor.out_channels != channels or extractor.num_inputs > levels:
                raise UserError(
                    f"model: {part}_roi_extractor wants {extractor.num_inputs} feature maps of "
                    f"{extractor.out_channels} channels; there are {levels} of {channels}"
                )
            out = head(torch.zeros(2, channels, *extractor.roi_layers[0].output_size))
            if part == "mask":
                _check_mask_size(out[0] if isinstance(out, list) else out, roi_head.train_cfg)


def _check_mask_size(masks: Any, train_cfg: Any) -> None:
    wanted = (train_cfg[0] if isinstance(train_cfg, list) else train_cfg).mask_size
    if masks.shape[-1] != wanted:
        raise UserError(
            f"model: mask_head makes masks of {masks.shape[-1]} pixels, "
            f"and train_cfg.rcnn.mask_size is {wanted}"
        )


def _check_depth(backbone: Any) -> None:
    allowed = getattr(_registered(backbone.type), "arch_settings", {})
    if allowed and "depth" in backbone and backbone.depth not in allowed:
        raise unknown("model.backbone.depth", backbone.depth, [*map(str, allowed)])


def check_transforms(data: dict[str, Any]) -> None:
    """Builds the data pipelines of training and test.

    Raises:
        UserError: what mmdet says.
    """
    import gol.models  # noqa: F401  (patches mmdet, which cannot be imported before)

    # isort: split
    from mmdet.datasets import PIPELINES
    from mmdet.datasets.pipelines import Compose

    train = data["train"].get("dataset", data["train"])
    for split, part in (("train", train), ("test", data["test"])):
        for step in part["pipeline"]:
            pick(f"transform in data.{split}.pipeline", step.get("type"), PIPELINES.module_dict)
        with _one_line(f"data.{split}.pipeline"):
            Compose(copy.deepcopy(part["pipeline"]))


def check_batches(samples: int, global_batch: int) -> None:
    """Checks that an iteration's images make whole micro-batches.

    Raises:
        UserError: they do not.
    """
    from gol.data.loader import micro_batch_size

    micro_batch_size(samples, global_batch, world=1)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever the libraries raise for wrong arguments, as one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(f"{error}".split()).rstrip(": ")
        if not reason or reason.isidentifier():  # an assertion without words
            reason += " a wrong argument"
        raise UserError(f"{what} cannot be built: {reason}") from error


@cache
def _check_optimizer(text: str) -> None:
    import torch
    from mmcv.runner.optimizer import build_optimizer

    settings = json.loads(text)
    name, lr = settings.get("type"), settings.get("lr")
    if not isinstance(lr, int | float) or isinstance(lr, bool) or not 0 < lr < math.inf:
        raise UserError(f"key 'optimizer.lr' must be a number above 0, not {shown(lr)}")
    _refuse_unknown(
        "optimizer", settings, {"type", *arguments({"optimizer": settings}, ("optimizer",))}
    )
    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Linear(1, 1)
    )
    with _one_line(f"optimizer {name} with {shown(settings)}"):
        optimizer = build_optimizer(model, settings)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise UserError(f"optimizer {name}: the first step is not finite with lr {lr}")


@cache
def _check_schedule(text: str, lr: float, epochs: int) -> None:
    import torch

    from gol.config.schedule import Schedule

    settings = json.loads(text)
    known = arguments({"lr_config": settings}, ("lr_config",))
    _refuse_unknown("lr_config", settings, {"policy", *known})
    optimizer, length = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr), 10
    with _one_line(f"lr_config {shown(settings)}"):
        schedule = Schedule(settings, optimizer, length, epochs)
        for epoch in range(min(epochs, _EPOCHS)):
            for iteration in (epoch * length, epoch * length + length - 1):
                rate = schedule.set(iteration)
                if not 0 <= rate < math.inf:
                    raise UserError(
                        f"lr_config: the learning rate would be {rate} in epoch {epoch + 1}; "
                        "allowed: finite numbers from 0 on"
                    )


def _refuse_unknown(part: str, settings: dict[str, Any], known: set[str]) -> None:
    for key in settings:
        if key not in known:
            name = settings.get("type") or settings.get("policy")
            problem = unknown("key", key, sorted(known), f"{part} ({name})")
            raise UserError(f"{problem}; _delete_: true among the keys of {part} replaces them all")


@cache
def _optimizers() -> dict[str, type]:
    from gol import compat

    compat.quiet()
    from mmcv.runner.optimizer import OPTIMIZERS

    return {name: cls for name, cls in OPTIMIZERS.module_dict.items() if name not in _UNFIT}


@cache
def _policies() -> dict[str, type]:
    """Name of a policy, as mmcv's configs spell it, to its hook."""
    from gol import compat

    compat.quiet()
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


def _registered(name: Any) -> type | None:
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
