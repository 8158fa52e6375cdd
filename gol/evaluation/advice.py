"""What is likely wrong where AP is 0, from what detections, annotations and training show."""

from pathlib import Path
from typing import Any

import numpy as np

from gol.config.resolve import read_config
from gol.errors import UserError, first_few, plural
from gol.evaluation.inputs import (
    CATEGORY,
    HEIGHT,
    IMAGE,
    SCORE,
    WIDTH,
    Detections,
    GroundTruth,
    X,
    Y,
    read_detections,
    read_ground_truth,
)
from gol.files.digests import log_lines
from gol.run_folder import RunFolder

_IOU = 0.5  # from which a box counts as being on an object
_FEW = 0.05  # a share of the objects that says that hardly any is found
_FALLEN = 0.9  # times the first loss: above, it has not fallen


def advice(
    result: dict[str, Any],
    annotations: str | Path,
    detections: str | Path,
    run: RunFolder | None = None,
) -> list[str]:
    """Lines that say what is likely wrong and what to do; none where AP is not shown as 0.0.

    Args:
        result: as :func:`gol.evaluation.lvis.evaluate` gives it for the two files.
        annotations: JSON in the LVIS schema.
        detections: JSON list of detections.
        run: whose training to look at; by default the run in whose folder the detections are.
    """
    kind = "segm" if result.get("segm", {}).get("AP") is not None else "bbox"
    ap = result[kind]["AP"]
    if ap is None or round(100 * ap, 1) > 0:
        return []
    truth = read_ground_truth(annotations)
    found = read_detections(detections, truth, with_masks=False)
    lines = [f"AP is 0.0: {_seen(truth, found, result)}"]
    lines += _untrained(truth)
    return lines + _trained(run or _run_of(Path(detections)))


def _run_of(detections: Path) -> RunFolder | None:
    """The run in whose folder the detections are."""
    run = RunFolder(detections.parent.parent)
    inside = run.detections(detections.stem) == detections and run.config.exists()
    return run if inside else None


def _seen(truth: GroundTruth, found: Detections, result: dict[str, Any]) -> str:
    """What the detections look like beside the objects."""
    if not len(found.table):
        return (
            f"not one detection on {plural(len(truth.images), 'image')}; all scores lie below "
            "the threshold (model.test_cfg.rcnn.score_thr), as after too little training or a "
            "too high learning rate"
        )
    placed, named = _covered(truth, found)
    best = f"the highest score is {found.table[:, SCORE].max():.2g}"
    if placed < _FEW:
        return (
            f"{placed:.0%} of the objects have a detection on them (IoU {_IOU}), of whatever class "
            f"({best}); boxes are not learned yet, or those of the annotations are not where the "
            "objects are"
        )
    if named < _FEW:
        return (
            f"{placed:.0%} of the objects have a detection on them, but {named:.0%} one of their "
            f"own class ({best}); classes are not learned yet, or do not mean the same in the "
            "training images"
        )
    if result["bbox"]["AP"] and round(100 * result["bbox"]["AP"], 1) > 0:
        return (
            f"boxes are found (box AP {100 * result['bbox']['AP']:.1f}) and masks are not; are the "
            "annotated masks outlines of the objects?"
        )
    return (
        f"{named:.0%} of the objects have a detection of their class on them, among too many "
        f"others ({best}); scores are not learned yet"
    )


def _covered(truth: GroundTruth, found: Detections) -> tuple[float, float]:
    """Shares of the objects with a detection on them: of any class, of their own."""
    rows = found.table[np.argsort(found.table[:, IMAGE], kind="stable")]
    ends = np.searchsorted(rows[:, IMAGE], np.arange(1, len(truth.images) + 2))
    placed = named = 0
    objects = truth.dataset["annotations"]
    for each in objects:
        image = each["image_id"] - 1
        near = rows[ends[image] : ends[image + 1]]
        on = near[_iou(near[:, [X, Y, WIDTH, HEIGHT]], each["bbox"]) >= _IOU]
        placed += bool(len(on))
        named += bool((on[:, CATEGORY] == each["category_id"]).any())
    count = max(len(objects), 1)
    return placed / count, named / count


def _iou(boxes: np.ndarray, box: list[float]) -> np.ndarray:
    """IoU (N,) of boxes (N, 4) with one; x, y, width, height in pixels."""
    corner = np.maximum(boxes[:, :2], box[:2])
    end = np.minimum(boxes[:, :2] + boxes[:, 2:], np.add(box[:2], box[2:]))
    both = np.clip(end - corner, 0, None).prod(1)
    either = boxes[:, 2:].prod(1) + box[2] * box[3] - both
    return both / np.maximum(either, 1e-9)


def _untrained(truth: GroundTruth) -> list[str]:
    """Names the classes of these images that no training image shows, if they are many."""
    shown = {each["category_id"] for each in truth.dataset["annotations"]}
    here = [entry for number, entry in enumerate(truth.categories, 1) if number in shown]
    absent = [entry["name"] for entry in here if entry.get("image_count") == 0]
    if 2 * len(absent) <= len(here):
        return []
    return [
        f"{len(absent)} of the {len(here)} classes of these images are in no training image "
        f"({first_few(absent)}): are they called otherwise there?"
    ]


def _trained(run: RunFolder | None) -> list[str]:
    """What the training's log says, and what would help."""
    try:
        if run is None or not run.metrics.exists():
            return []
        lines = [line for _, line in log_lines(run.metrics) if line and line.get("loss")]
        config = read_config(run.path)
    except UserError:
        return []
    texts = []
    if len(lines) > 1:
        first, last, done = lines[0]["loss"], lines[-1]["loss"], lines[-1]["iteration"]
        text = f"the loss went from {first:.3g} to {last:.3g} in {plural(done, 'iteration')}: "
        length = "max_iters" if "max_iters" in config["runner"] else "max_epochs"
        remedy = f"train longer (runner.{length})"
        if last > _FALLEN * first:
            rate = f"optimizer.lr is {config['optimizer']['lr']:g}"
            remedy = f"it has hardly fallen, so {remedy} or with another learning rate ({rate})"
        texts.append(text + remedy)
    if not (config["gol"].get("weights") or config["gol"].get("init")):
        texts.append("it began from scratch, which takes many images: start from COCO's weights")
    return ["; ".join(texts)] if texts else []
