"""The axes of an experiment and their values, as ``configs/`` states them.

Each value lives in one place: ``configs/models`` (a file a detector or backbone),
``configs/datasets`` (a file a dataset) or ``configs/axes.yaml``; ``configs/experiments.yaml``
names one value for each axis.
"""

import copy
import re
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import SerializerFunctionWrapHandler, model_serializer

from gol.config.datasets import shipped_datasets
from gol.config.model import Model, Text
from gol.errors import UserError, choices, pick, shown
from gol.files import configs_folder, read_yaml
from gol.files.digests import sha256


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
    init: Text = "none"
    calibration: Text = "none"

    @model_serializer(mode="wrap")
    def _in_use(self, dump: SerializerFunctionWrapHandler) -> dict[str, str]:
        """Leaves out a younger axis that is not used, so that older configs stay what they were."""
        return {axis: value for axis, value in dump(self).items() if (axis, value) not in _UNUSED}

    def definitions(self) -> dict[str, Any]:
        """Axis to the definition of its value, for all but the dataset.

        Raises:
            UserError: a value that there is not, or values that make no sense together.
        """
        allowed = {axis: axis_values(axis) for axis in AXES if axis not in ("dataset", "init")}
        allowed["classifier"] |= _installed_classifiers()
        found = {axis: pick(axis, getattr(self, axis), allowed[axis]) for axis in allowed}
        found["init"] = _init_source(self.init)
        if self.layer == "normed_20" and _is_clamped(found["classifier"]):
            raise UserError(
                f"layer normed_20 with classifier {self.classifier}, whose rows begin in one "
                "direction, where 20 times the cosine leaves Gumbel as published no gradient; "
                "allowed: another layer, or a classifier such as gumbel_exact, seesaw or softmax"
            )
        self._check_calibration(found["classifier"])
        if self.detector == "faster_rcnn":
            for axis in ("mask_predictor", "masks"):
                only = Axes.model_fields[axis].default
                if getattr(self, axis) != only:
                    raise UserError(
                        f"{axis} {getattr(self, axis)} with detector faster_rcnn, which has no "
                        f"masks; allowed: {axis} {only}, or a detector with masks"
                    )
        return found

    def _check_calibration(self, classifier: dict[str, Any]) -> None:
        """Refuses a calibration that the classifier's scores make senseless."""
        loss, senseless = classifier["loss"]["type"], {}
        if classifier["scorings"] != ["softmax"] or loss == "Seesaw":
            senseless["logn"] = "logn compares the logits of all classes in one softmax"
        if loss in _DISCOUNTED:
            senseless["fracal"] = (
                "fracal multiplies two scores, and these are products with a background's already"
            )
        if reason := senseless.get(self.calibration):
            allowed = ", ".join(
                each for each in axis_values("calibration") if each not in senseless
            )
            raise UserError(
                f"calibration {self.calibration} with classifier {self.classifier}: {reason}; "
                f"allowed: {allowed}"
            )


AXES = tuple(Axes.model_fields)
_DISCOUNTED = ("EQLv2", "ECM")
_UNUSED = {("init", "none"), ("calibration", "none")}
#: mmdet's zoo, like torch.hub, ends a file's name with the beginning of its SHA-256.
_DIGEST = re.compile(r"-([0-9a-f]{8,64})\.\w+$")


def scorings(activations: list[str], calibration: str) -> list[str]:
    """How logits become scores: each activation, with the calibration where there is one."""
    return [each if calibration == "none" else f"{each}+{calibration}" for each in activations]


def _is_clamped(classifier: dict[str, Any]) -> bool:
    """Whether a classifier has the published Gumbel's gradient, which ends where it is clamped."""
    gumbel = {"gumbel", "class_relative"} & set(classifier["scorings"])
    return bool(gumbel) and classifier["loss"].get("mode", "paper") == "paper"


def _init_source(name: str) -> dict[str, Any] | None:
    """Where the weights of a whole detector are: one of ours by its name, an address or a file."""
    known = axis_values("init")
    if name in known:
        return known[name]
    if re.match("https?://", name):
        digest = _DIGEST.search(name)
        return {"url": name, "sha256": digest[1]} if digest else {"url": name}
    if Path(name).is_file():
        path = Path(name).resolve()
        return {"file": str(path), "sha256": sha256(path)}  # other content is another training
    raise UserError(
        f"init {shown(name)}: no such file; allowed: {choices(known)}, an http or https address, or"
        " a file"
    )


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
