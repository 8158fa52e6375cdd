"""Whether what a config names can be built: optimizer, learning rate, detector, data pipeline.

Each is built for real from the changed config. mmcv is imported for the optimizer and the learning
rate, mmdet only where the detector or a data pipeline was changed.
"""

import copy
import json
import math
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from gol.config.detector import mmcv_config
from gol.config.registries import arguments, registered
from gol.errors import UserError, shown, unknown

_EPOCHS = 1000  # most epochs whose learning rate is looked at
_LENGTH = 10  # iterations of an epoch that rates are asked for


def check_optimizer(optimizer: dict[str, Any]) -> None:
    """Builds the optimizer for a small model and takes a step.

    Raises:
        UserError: an argument is missing, unknown or wrong.
    """
    _check_optimizer(json.dumps(optimizer))


def check_schedule(
    lr_config: dict[str, Any], lr: float, epochs: int | None, iterations: int | None = None
) -> None:
    """Asks for the learning rates of every epoch, or of as many iterations.

    Raises:
        UserError: an argument is missing, unknown or wrong, or a rate is not a finite number from 0
            on.
    """
    _check_schedule(json.dumps(lr_config), lr, epochs or math.ceil((iterations or 1) / _LENGTH))


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
    heads = model.roi_head.bbox_head
    with _one_line("model", model), tempfile.TemporaryDirectory() as folder:
        for head in heads if isinstance(heads, list) else [heads]:
            path = head.loss_cls.get("class_statistics")
            if path and not Path(path).exists():  # a planned run, whose data are not prepared yet
                head.loss_cls.class_statistics = _any_statistics(head.num_classes, folder)
        try:
            with torch.device("meta"):  # shapes alone, no memory and no random numbers
                detector = build_detector(copy.deepcopy(model))
        except Exception:  # Swin computes with tensors while it is built
            detector = build_detector(model)
        with torch.device(next(detector.parameters()).device), torch.no_grad():
            _pass_through(detector.eval())


def _any_statistics(classes: int, folder: str) -> str:
    from gol.losses.class_statistics import ClassStatistics

    ids, ones = tuple(range(1, classes + 1)), (1,) * classes
    names, groups = tuple(map(str, ids)), ("r",) * classes
    path = Path(folder) / "classes.json"
    ClassStatistics(ids, names, groups, ones, ones, classes, classes).save(path)
    return str(path)


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
    allowed = getattr(registered(backbone.type), "arch_settings", {})
    if allowed and "depth" in backbone and backbone.depth not in allowed:
        raise unknown("model.backbone.depth", backbone.depth, [*map(str, allowed)])


def check_transforms(data: dict[str, Any]) -> None:
    """Builds the data pipelines of training and test.

    Raises:
        UserError: what mmdet says.
    """
    import gol.models  # noqa: F401  (patches mmdet, which cannot be imported before)

    # isort: split
    from mmdet.datasets.pipelines import Compose

    train = data["train"].get("dataset", data["train"])
    for split, part in (("train", train), ("test", data["test"])):
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
def _one_line(what: str, config: Any = None) -> Iterator[None]:
    """Whatever the libraries raise for wrong arguments, as one line.

    Args:
        what: key of what is built.
        config: its value, in which the key of a part of it is looked for.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = " ".join(f"{error}".split()).rstrip(": ")
        wordless = all(map(str.isidentifier, reason.split(": "))) or not reason
        if wordless and isinstance(error, AssertionError):  # classes within each other, at most
            name = reason.rpartition(": ")[2]
            what = _key(what, config, name) or what
            reason = f"{name or 'it'} requires `{_asserted(error)}`"
        elif wordless:
            reason = f"{reason} a wrong argument"
        raise UserError(f"{what} cannot be built: {reason}") from error


def _key(key: str, config: Any, name: str) -> str:
    """The dotted key of the first part of a config that is of a type; empty for none."""
    if isinstance(config, list | tuple):
        config = dict(enumerate(config))
    if not isinstance(config, dict):
        return ""
    if config.get("type") == name:
        return key
    return next(filter(None, (_key(f"{key}.{k}", v, name) for k, v in config.items())), "")


def _asserted(error: BaseException) -> str:
    """The condition that an assertion began with; mmcv raises it anew from class to class."""
    while isinstance(error.__context__, AssertionError):
        error = error.__context__
    line = traceback.extract_tb(error.__traceback__)[-1].line or ""
    return line.removeprefix("assert ").rstrip(", (\\")


@cache
def _check_optimizer(text: str) -> None:
    import torch

    from gol.compat.deferred import no_compiler

    settings = json.loads(text)
    name, lr = settings.get("type"), settings.get("lr")
    if not isinstance(lr, int | float) or isinstance(lr, bool) or not 0 < lr < math.inf:
        raise UserError(f"key 'optimizer.lr' must be a number above 0, not {shown(lr)}")
    _refuse_unknown(
        "optimizer", settings, {"type", *arguments({"optimizer": settings}, ("optimizer",))}
    )
    from mmcv.runner.optimizer import build_optimizer  # after what it wants was imported with care

    model = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 1), torch.nn.BatchNorm2d(2), torch.nn.Linear(1, 1)
    )
    with _one_line(f"optimizer {name} with {shown(settings)}"), no_compiler():
        optimizer = build_optimizer(model, settings)
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
    if not all(torch.isfinite(parameter).all() for parameter in model.parameters()):
        raise UserError(f"optimizer {name}: the first step is not finite with lr {lr}")


@cache
def _check_schedule(text: str, lr: float, epochs: int) -> None:
    import torch

    from gol.compat.deferred import no_compiler
    from gol.config.schedule import Schedule

    settings = json.loads(text)
    known = arguments({"lr_config": settings}, ("lr_config",))
    _refuse_unknown("lr_config", settings, {"policy", *known})
    with _one_line(f"lr_config {shown(settings)}"), no_compiler():
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        schedule = Schedule(settings, optimizer, _LENGTH, epochs)
        for epoch in range(min(epochs, _EPOCHS)):
            for iteration in (epoch * _LENGTH, epoch * _LENGTH + _LENGTH - 1):
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
