"""What calibrations know of a run's training set, gathered from its files."""

import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gol.calibration import Known, calibration, fractal_dimensions
from gol.config.resolve import training_annotations
from gol.data.prepared import Prepared
from gol.data.store import AnnotationStore
from gol.engine.kept import KeptIndex
from gol.errors import UserError, first_few
from gol.losses.base import load_statistics
from gol.losses.class_statistics import ClassStatistics


def read_known(config: Any, method: str, measured: KeptIndex | None = None) -> Known:
    """What a method needs to know of the training set of a resolved config.

    Args:
        config: the resolved config.
        method: the calibration.
        measured: mean and variance of the logits, for LogN.

    Raises:
        UserError: the class statistics or the annotations are not there, of other classes, or
            without an object.
    """
    statistics = class_statistics(config)
    if not any(statistics.image_counts):
        raise UserError("no class has a training image: there is nothing to calibrate by")
    dimensions = _dimensions(config, statistics) if method == "fracal" else None
    if measured is None:
        return Known(statistics, dimensions)
    return Known(statistics, dimensions, measured.mean, measured.variance)


def say_empty_classes(known: Known, method: str) -> None:
    """Names the classes without a training image, which count as if they had one."""
    counts = known.statistics.image_counts
    pairs = zip(known.statistics.names, counts, strict=True)
    if method not in ("none", "logn") and (names := [name for name, count in pairs if not count]):
        text = f"{len(names)} of {known.classes} classes have no training image and count as one"
        print(f"{text}: {first_few(names)}", file=sys.stderr, flush=True)


def class_statistics(config: Any) -> ClassStatistics:
    """The class counts of a resolved config's training set.

    Raises:
        UserError: there are none, or they are of other classes.
    """
    heads = config.model.roi_head.bbox_head
    count = (heads[-1] if isinstance(heads, list) else heads).num_classes
    path = Prepared(Path(training_annotations(config)).parent).classes
    return load_statistics(None, path if path.exists() else None, count)


def _dimensions(config: Any, statistics: ClassStatistics) -> list[float]:
    path = training_annotations(config)
    categories, centres = AnnotationStore.open(path).centres()
    ids = np.array(statistics.ids)
    labels = np.searchsorted(ids, categories).clip(max=len(ids) - 1)
    if (ids[labels] != categories).any():
        raise UserError(f"{path} has classes that the class statistics lack: another class list")
    return fractal_dimensions(labels, centres, len(ids))


def set_calibration(detector: torch.nn.Module, method: str, known: Known, strength: float) -> None:
    """Makes a detector's last box head score as calibrated.

    The stages of a cascade before the last, which only refine boxes, stay as they are.

    Args:
        detector: an mmdet two-stage detector.
        method: the calibration.
        known: what it needs to know.
        strength: gamma, tau or lambda.
    """
    chosen, heads = calibration(method), detector.roi_head.bbox_head
    loss = (heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads).loss_cls
    plain = loss.get_activation
    loss.get_activation = lambda logits: chosen.function(logits, plain, known, strength)


def moments(count: int, total: Tensor, squares: Tensor) -> tuple[list[float], list[float]]:
    """Mean and variance of K logits, by ``count`` RoIs, of their sum and that of their squares."""
    mean = total / max(count, 1)
    variance = (squares / max(count, 1) - mean.square()).clamp(min=0) * count / max(count - 1, 1)
    found = mean.tolist(), variance.tolist()
    if not all(map(math.isfinite, found[0] + found[1])):
        raise UserError("the logits are not all finite numbers: the training diverged")
    return found
