"""The mmdet plug-in: importing it makes mmdet ready for this project's configs.

It installs the patches of ``gol.compat``, registers the losses and the dataset class in mmdet, and
builds detectors. ``custom_imports = dict(imports=['gol.models'])`` does the same in mmdet's tools.
"""

import copy
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from gol import compat
from gol.compat.deferred import deferred_imports

compat.apply()

import torch  # noqa: E402

with deferred_imports():
    from mmcv.runner import CheckpointLoader
    from mmcv.utils import get_logger
    from mmdet.datasets import build_dataset
    from mmdet.models import LOSSES as MMDET_LOSSES
    from mmdet.models import build_backbone
    from mmdet.models import build_detector as _build

import gol.data.dataset  # noqa: E402,F401  (registers InstanceDataset)
from gol.activations import ACTIVATIONS  # noqa: E402
from gol.data.store import AnnotationStore  # noqa: E402
from gol.errors import UserError  # noqa: E402
from gol.losses import LOSSES  # noqa: E402
from gol.models import foreign  # noqa: E402
from gol.models.aglu import AGLUResNet  # noqa: E402
from gol.models.gates import APAGate  # noqa: E402
from gol.models.init import Start, load_init  # noqa: E402
from gol.models.masks import lazy_masks  # noqa: E402
from gol.models.weights import load_backbone  # noqa: E402

__all__ = [
    "AGLUResNet",
    "APAGate",
    "build_dataset",
    "build_detector",
    "check_init",
    "check_weights",
    "float32_heads",
    "lazy_masks",
    "set_scoring",
]

# init_weights otherwise reports every tensor.
get_logger("mmcv").setLevel(logging.WARNING)


def _register_losses() -> None:
    for loss in LOSSES.own.values():
        MMDET_LOSSES.register_module(module=loss, force=True)
    for name in LOSSES.others:
        if name in MMDET_LOSSES:
            raise UserError(f"the loss {name} of an installed package: mmdet has its own {name}")
        MMDET_LOSSES.register_module(name, module=_later(name))


def _later(name: str) -> Callable[..., torch.nn.Module]:
    """Builds another package's loss; the package is imported when a config names the loss."""

    def build(**arguments: Any) -> torch.nn.Module:
        return LOSSES[name](**arguments)

    build.__name__ = name
    return build


_register_losses()


def build_detector(config: Any, initialise: bool = True) -> torch.nn.Module:
    """Builds the detector of a resolved config and initialises its weights from ``config.seed``.

    In a config of ours ``config.gol.weights`` says which file the backbone begins with, and
    ``gol.models.weights`` loads it, every tensor; None trains it from scratch. ``config.gol.init``
    names a whole detector instead: ``gol.models.init`` loads what fits. Nothing is fetched:
    that is done before, by ``gol weights``, ``gol train`` or ``gol launch``. mmdet's own
    ``init_cfg`` of the backbone is there for mmdet's tools, which would skip what does not match.

    Args:
        config: resolved config.
        initialise: False leaves the weights undefined, for a checkpoint to replace.

    Raises:
        UserError: the backbone's weights are not there, or do not fit.
    """
    with _own_weights_alone() if "gol" in config else nullcontext():
        return _initialised(config, initialise)


@contextmanager
def _own_weights_alone() -> Iterator[None]:
    """Keeps mmcv from loading a file meanwhile, since it unpickles what it downloads."""

    def refuse(filename: str, *_: Any, **__: Any) -> None:
        raise UserError(f"{filename} is not loaded: a detector's only weights are gol.weights")

    before = vars(CheckpointLoader)["load_checkpoint"]
    CheckpointLoader.load_checkpoint = staticmethod(refuse)
    try:
        yield
    finally:
        CheckpointLoader.load_checkpoint = before


def _initialised(config: Any, initialise: bool) -> torch.nn.Module:
    torch.manual_seed(config.get("seed") or 0)
    model = copy.deepcopy(config.model)
    if "gol" in config and (model.backbone.get("init_cfg") or {}).get("type") == "Pretrained":
        model.backbone.init_cfg = None
    detector = _build(model)
    if not initialise:
        return detector
    weights = config.get("gol", {}).get("weights")
    if weights:
        # mmcv asks each part to initialise itself; this one's answer is ours.
        name = config.gol.axes.backbone
        detector.backbone.init_weights = lambda: load_backbone(detector.backbone, weights, name)
    detector.init_weights()
    vars(detector.backbone).pop("init_weights", None)
    if "gol" in config and config.gol.get("init"):
        foreign.tell(_start(detector, config).report())
    return detector


def _start(detector: torch.nn.Module, config: Any) -> Start:
    train = config.data.train
    store = AnnotationStore.open(train.get("dataset", train).ann_file)
    classes = [category["name"] for category in store.categories]
    return load_init(detector, config.gol.init, classes, config.gol.scorings[-1].partition("+")[0])


def check_init(config: Any) -> str:
    """Loads what a resolved config's training starts from, to see now what of it fits.

    Returns:
        What is taken and what is not, as lines.

    Raises:
        UserError: as :func:`gol.models.init.load_init`, or the data are not prepared.
    """
    detector = _build({**config.model, "backbone": {**config.model.backbone, "init_cfg": None}})
    return _start(detector, config).report()


def check_weights(config: Any) -> None:
    """Loads the weights of a resolved config's backbone, to see now whether they fit.

    Raises:
        UserError: they are not there, or do not fit.
    """
    backbone = build_backbone({**config.model.backbone, "init_cfg": None})
    load_backbone(backbone, config.gol.weights, config.gol.axes.backbone)


def set_scoring(detector: torch.nn.Module, scoring: str) -> None:
    """Makes the box heads turn logits into scores with one activation, whatever they trained with.

    Args:
        detector: an mmdet two-stage detector.
        scoring: a name of ``ACTIVATIONS``; a loss of this project keeps its own.
    """
    heads = detector.roi_head.bbox_head
    for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
        loss = head.loss_cls
        if type(loss).__name__ in LOSSES:
            continue  # our losses score with the activation that they train
        loss.get_activation = ACTIVATIONS[scoring].probability
        # mmdet asks for get_activation only of a loss that says so.
        loss.custom_activation = loss.custom_cls_channels = True


def float32_heads(detector: torch.nn.Module) -> None:
    """Makes every head return float32 under autocast, so that boxes are not decoded in half.

    mmdet's own fp16 decorators know half precision but not bfloat16.
    """
    for name, module in detector.named_modules():
        # rpn_head, roi_head.bbox_head, and roi_head.bbox_head.0 … of a cascade
        if re.search(r"(rpn|bbox|mask)_head(\.\d+)?$", name):
            module.register_forward_hook(lambda _, __, output: _float32(output))


def _float32(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.float() if value.is_floating_point() else value
    if isinstance(value, (list, tuple)):
        return type(value)(_float32(item) for item in value)
    return value
