"""The axes of an experiment and their values, as ``configs/`` states them.

Each value lives in one place: ``configs/models`` (a file a detector or backbone),
``configs/datasets`` (a file a dataset) or ``configs/axes.yaml``; ``configs/experiments.yaml``
names one value for each axis.
"""

import copy
from functools import cache
from typing import Any

from gol.config.datasets import shipped_datasets
from gol.config.model import Model, Text
from gol.errors import UserError, pick
from gol.files import configs_folder, read_yaml


class Axes(Model):
    """One value for each axis, in the order of listings; what is not named is as here."""

    detector: Text = "mask_rcnn"
    backbone: Text = "r50"
    classifier: Text = "gumbel"
    layer: Text = "linear"
    mask_predictor: Text = "conv"
    masks: Text = "bitmap"
    sampler: Text = "random"
    schedule: Text = "1x"
    test_nms: Text = "iou_0.5"
    precision: Text = "float32"
    dataset: Text = "lvis_v1"

    def definitions(self) -> dict[str, Any]:
        """Axis to the definition of its value, for all but the dataset.

        Raises:
            UserError: a value that there is not, or values that make no sense together.
        """
        allowed = {axis: axis_values(axis) for axis in AXES if axis != "dataset"}
        allowed["classifier"] |= _installed_classifiers()
        found = {axis: pick(axis, getattr(self, axis), allowed[axis]) for axis in allowed}
        if self.detector == "faster_rcnn":
            for axis in ("mask_predictor", "masks"):
                only = Axes.model_fields[axis].default
                if getattr(self, axis) != only:
                    raise UserError(
                        f"{axis} {getattr(self, axis)} with detector faster_rcnn, which has no "
                        f"masks; allowed: {axis} {only}, or a detector with masks"
                    )
        return found


AXES = tuple(Axes.model_fields)


def _installed_classifiers() -> dict[str, dict]:
    """The losses of other packages: each is a value of the axis ``classifier`` by its own name."""
    from gol.losses import LOSSES  # torch, which not every user of this module pays for

    rest = {"bias": None, "weight": 0.001}
    return {name: {"loss": {"type": name}, "scorings": [name], **rest} for name in LOSSES.others}


@cache
def _axes() -> dict[str, dict]:
    return read_yaml(configs_folder() / "axes.yaml")


@cache
def _models(kind: str) -> dict[str, dict]:
    files = sorted((configs_folder() / "models").glob("*.yaml"))
    return {f.stem: content for f in files if (content := read_yaml(f))["kind"] == kind}


def axis_values(axis: str) -> dict[str, Any]:
    """All values of one axis: name to definition; the caller may change what it gets."""
    if axis in ("detector", "backbone"):
        return copy.deepcopy(_models(axis))
    return copy.deepcopy(shipped_datasets() if axis == "dataset" else _axes()[axis])
