"""Kept logits in, calibrated detections out: no training, and no image is looked at again."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from gol.calibration import Calibration, Known, calibration
from gol.config.own import own_part
from gol.config.resolve import fingerprint, load_config, training_annotations
from gol.engine.detect import Detecting, build_scorer
from gol.engine.distributed import join
from gol.engine.keeping import kept_folder
from gol.engine.kept import KeptFolder
from gol.engine.known import read_known, say_empty_classes
from gol.engine.preemption import Preemption
from gol.engine.shares import entries_of
from gol.errors import UserError, first_few
from gol.evaluation.lvis import evaluate, evaluate_file
from gol.files import json_items, read_json, remove, sealed_path, write_json
from gol.files.digests import sha256
from gol.groups import GROUP_METRICS
from gol.models.keep import Rules, scorer
from gol.models.state import load_weights
from gol.progress import progress
from gol.run_folder import RunFolder

_COARSE = 9  # strengths that a fit tries first
_WRITER = "gol calibrate"


@dataclass(frozen=True)
class Point:
    """One strength that a fit has tried.

    Attributes:
        strength: gamma, tau or lambda.
        AP, APr, APc, APf: on the half of the training images, in [0, 1] or None.
    """

    strength: float
    AP: float | None
    APr: float | None
    APc: float | None
    APf: float | None


@dataclass(frozen=True)
class Calibrated:
    """What a calibration has brought.

    Attributes:
        scoring: ACTIVATION+CALIBRATION.
        strength: that was applied.
        curve: what a fit has tried, by ascending strength; empty without one.
        before: scores of the detections as they were.
        after: those of the calibrated ones.
        detections: the file of these.
        missing: about how many detections are missing since their masks were not kept.
        replaced: strength of the detections whose place these take; None if there were none.
    """

    scoring: str
    strength: float
    curve: tuple[Point, ...]
    before: dict[str, Any]
    after: dict[str, Any]
    detections: Path
    missing: int
    replaced: float | None = None


def calibrate(
    run: str | Path,
    method: str,
    scoring: str | None = None,
    strength: tuple[str, float] | None = None,
    fit: bool = False,
    device: str | None = None,
) -> Calibrated:
    """Scores a run's kept logits again; writes detections and scores beside the run's own.

    Args:
        run: folder of a trained run, whose logits ``gol detect --keep-logits`` has kept.
        method: a name of ``CALIBRATIONS``.
        scoring: activation that turns logits into scores; default the config's first.
        strength: the parameter's name and value; default the method's.
        fit: finds the strength of the best AP on a half of the training images instead.
        device: ``cpu``, ``cuda`` …; by default CUDA where there is a GPU.

    Raises:
        UserError: no kept logits, or of other weights or classes; a strength out of range; nothing
            to fit, or by; as the calibrations.
    """
    if scoring and "+" in scoring:
        raise UserError(f"--scoring {scoring} is calibrated already: name the activation alone")
    chosen = calibration(method)
    value = chosen.strength(*strength) if strength else chosen.default
    if fit and (strength or not chosen.parameter):
        reason = f"--{strength[0]} gives it" if strength else f"{chosen.title} has none"
        raise UserError(f"--fit finds a strength, but {reason}")
    with Preemption() as preemption, join(device) as ranks:
        if ranks.world > 1:
            raise UserError(f"{_WRITER} is for one process, not {ranks.world}")
        config = load_config(run)
        own = own_part(config)
        torch.set_num_threads(own.threads)
        activation = own.scoring(scoring).partition("+")[0]
        folder = RunFolder(run)
        kept = kept_folder(folder, activation, "val")
        weights = _weights(folder, kept, config)
        wanted = fingerprint(config)
        detecting = Detecting(config, folder, weights, wanted, ranks, preemption)
        half = detecting.kept_half(activation) if fit or method == "logn" else None
        known = read_known(config, method, half.read_index() if half else None)
        say_empty_classes(known, method)
        detector = build_scorer(config, activation, ranks.device)
        load_weights(detector, weights, wanted)
        rescoring = _Rescoring(kept, detector, known, config)
        curve: tuple[Point, ...] = ()
        if fit and half:
            curve = _fit(_Rescoring(half, detector, known, config), chosen)
            value = _best(curve)
        return _apply(folder, f"{activation}+{method}", rescoring, value, curve)


def _apply(
    folder: RunFolder, scoring: str, rescoring: "_Rescoring", value: float, curve: tuple[Point, ...]
) -> Calibrated:
    """Writes the record, the detections and their scores."""
    method = scoring.partition("+")[2]
    annotations = Path(rescoring.config.data.test.ann_file).with_suffix(".json")
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "before.json"
        rescoring.write(path, calibration("none"), 0.0)
        before = evaluate(annotations, path)
    out = folder.detections(scoring)
    replaced = None
    with suppress(UserError):  # a damaged record says none
        replaced = folder.strength(scoring)
    missing = rescoring.write(out, calibration(method), value)
    remove(folder.evaluation(scoring))  # of another strength, as those by protocols
    folder.remove_protocols(scoring)
    record = {
        "parameter": calibration(method).parameter,
        "strength": value,
        "fitted": bool(curve),
        "curve": [asdict(point) for point in curve],
        "missing": missing,
    }
    write_json(folder.calibration(scoring), record, indent=1, writer=_WRITER)
    for path in folder.fit_figures(scoring):  # of a fit before
        remove(path)
    after = evaluate_file(annotations, out, folder.evaluation(scoring))
    return Calibrated(scoring, value, curve, before, after, out, missing, replaced)


def _weights(folder: RunFolder, kept: KeptFolder, config: Any) -> Path:
    """The weights that the kept logits are of."""
    index = kept.read_index()
    if index.fingerprint != fingerprint(config):
        raise UserError(
            f"{kept.path} is of another configuration or other annotations: "
            "`gol detect --keep-logits` keeps this one's logits"
        )
    for path in dict.fromkeys((folder.chosen, folder.weights)):
        if path.is_file() and sha256(path) == index.weights:
            return path
    raise UserError(
        f"{kept.path} is of other weights than {folder.chosen}: `gol detect --keep-logits` keeps "
        "the logits of these"
    )


class _Rescoring:
    """Kept logits with all that scoring them again takes."""

    def __init__(
        self, kept: KeptFolder, detector: torch.nn.Module, known: Known, config: Any
    ) -> None:
        self.kept, self.index, self.known, self.config = kept, kept.read_index(), known, config
        heads = detector.roi_head.bbox_head
        self.score = scorer(heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads)
        self.rules = Rules.of(config.model.test_cfg.rcnn)
        if self.index.categories != list(known.statistics.ids):
            raise UserError(
                f"{kept.path} is of {len(self.index.categories)} classes, the class statistics are "
                f"of {known.classes} with other ids: another class list"
            )

    def write(self, out: Path, chosen: Calibration, strength: float) -> int:
        """Writes the detections under a calibration; returns how many may be missing."""
        missing = 0

        def entries() -> Iterator[dict]:
            nonlocal missing
            images = progress(self.kept.images(self.index), chosen.title, self.index.images)
            for image_id, kept in images:
                scores = chosen.function(kept.logits, self.score, self.known, strength).float()
                found = kept.detections(scores, self.rules)
                missing += kept.missing(scores, found, self.rules)
                yield from entries_of(kept.result(scores, found), image_id, self.index.categories)

        with sealed_path(out, _WRITER) as temporary, open(temporary, "w", encoding="utf-8") as file:
            file.write("[")
            file.writelines(json_items(entries()))
            file.write("]\n")
        return missing


def _fit(rescoring: _Rescoring, chosen: Calibration) -> tuple[Point, ...]:
    """The curve of AP over strengths on a half of the training images, ascending."""
    with TemporaryDirectory() as temporary:
        truth, out = Path(temporary) / "half.json", Path(temporary) / "detections.json"
        masks = _write_half(truth, rescoring)
        kind = "segm" if masks else "bbox"

        def point(strength: float) -> Point:
            rescoring.write(out, chosen, strength)
            result = evaluate(truth, out, (kind,))[kind]
            return Point(strength, *(result[name] for name in GROUP_METRICS))

        points = [point(value) for value in np.linspace(0, chosen.most, _COARSE).tolist()]
        best = _best(points)
        step = chosen.most / (_COARSE - 1) / 3
        near = [best + step * times for times in (-2, -1, 1, 2)]
        points += [point(value) for value in near if 0 < value < chosen.most]
    return tuple(sorted(points, key=lambda each: each.strength))


def _best(points: Iterable[Point]) -> float:
    """The strength of the highest AP, of equal ones the least."""
    return max(points, key=lambda point: (point.AP or 0.0, -point.strength)).strength


def _write_half(path: Path, rescoring: _Rescoring) -> bool:
    """Writes the annotations of the images of a fit; returns whether there are masks.

    Raises:
        UserError: no object is in them.
    """
    ids, masks = set(), False
    for image_id, kept in rescoring.kept.images(rescoring.index):
        ids.add(image_id)
        masks |= kept.masks is not None
    data = read_json(Path(training_annotations(rescoring.config)).with_suffix(".json"))
    images = [image for image in data["images"] if image["id"] in ids]
    annotations = [entry for entry in data["annotations"] if entry["image_id"] in ids]
    seen = {entry["category_id"] for entry in annotations}
    if not seen:
        raise UserError("no object is in the half of the training images: nothing to fit by")
    lacking = [entry["name"] for entry in data["categories"] if entry["id"] not in seen]
    if lacking:
        text = f"{len(lacking)} of {len(data['categories'])} classes have no object in the half of"
        text += f" the training images, and the fit goes without them: {first_few(lacking)}"
        print(text, file=sys.stderr, flush=True)
    write_json(path, {**data, "images": images, "annotations": annotations})
    return masks
