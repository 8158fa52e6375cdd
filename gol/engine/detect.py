"""Checkpoint in, detections out: one JSON list in COCO's result format.

The batches are the same however many ranks there are; rank r of W detects on every W-th of them.

Shapes: B: images of a batch, C: classes, D: detections of an image, of all classes or of one.
"""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gol.config.own import own_part
from gol.config.resolve import fingerprint, load_config
from gol.engine.distributed import Ranks, join
from gol.engine.preemption import Preemption
from gol.engine.shards import write_sharded
from gol.errors import UserError, unknown
from gol.models.state import DamagedError, load_weights
from gol.run_folder import RunFolder

_STOPPED = "the detection was asked to stop (SIGUSR2) and begins anew"
_BATCH = 16  # most images at once
_MASK_BYTES = 1 << 30  # mmdet returns a mask of the whole image for every detection


def detect(
    run: str | Path,
    out: str | Path,
    scoring: str | None = None,
    checkpoint: str | Path | None = None,
    device: str | None = None,
) -> int:
    """Detects on the test images of a run's dataset; called in every process of a job.

    Args:
        run: folder of a trained run.
        out: JSON file to write: a list of {image_id, category_id, score, bbox (x, y, w, h in
            pixels), segmentation (compressed RLE)}.
        scoring: activation that turns logits into scores; default the config's first.
        checkpoint: weights to use instead of the run's own.
        device: ``cpu``, ``cuda`` …; by default CUDA where there is a GPU, one per rank.

    Returns:
        The number of detections.

    Raises:
        UserError: no config or checkpoint, a checkpoint of other classes, unknown scoring, a
            damaged image, a full disk.
        PeerError: another rank failed.
        Interrupted: SIGUSR2 came and no other handler took over.
    """
    with Preemption() as preemption, join(device) as ranks:
        config = load_config(run)
        own = own_part(config)
        scoring = scoring or own.scorings[0]
        if scoring not in own.scorings:
            raise unknown("scoring", scoring, own.scorings, own.experiment)
        torch.set_num_threads(own.threads)
        wanted = None if checkpoint else fingerprint(config)
        weights = checkpoint or RunFolder(run).weights

        def chunks() -> Iterator[list[dict]]:
            # Begins when the list is this job's, so that no GPU is held while it waits.
            try:
                detector = _detector(config, weights, wanted, scoring, ranks)
                yield from _detections(detector, config, ranks, preemption)
            except OSError as error:  # of reading; the list's own are named where it is written
                where = f"{error.filename}: " if error.filename else ""
                raise UserError(f"cannot detect: {where}{error.strerror or error}") from error

        return write_sharded(out, chunks(), ranks, preemption.at_once(_STOPPED))


def _detector(
    config: Any, weights: str | Path, fingerprint: str | None, scoring: str, ranks: Ranks
) -> torch.nn.Module:
    from gol.models import build_detector, float32_heads, set_scoring

    # The weights come from the checkpoint: nothing is loaded to be overwritten.
    detector = build_detector(config, initialise=False)
    try:
        load_weights(detector, weights, fingerprint)
    except DamagedError as error:
        remedy = "; remove it, and `gol train` writes it again from the last checkpoint"
        raise UserError(f"{error}{remedy if fingerprint else ''}") from error
    set_scoring(detector, scoring)
    if own_part(config).precision != "float32":
        float32_heads(detector)
    return detector.to(ranks.device).eval()


def _detections(
    detector: torch.nn.Module, config: Any, ranks: Ranks, preemption: Preemption
) -> Iterator[list[dict]]:
    """The entries of each of this rank's batches, with progress on stderr."""
    from gol.data.loader import load, to_device
    from gol.engine.trainer import PRECISIONS
    from gol.models import build_dataset

    own = own_part(config)
    dtype, device = PRECISIONS[own.precision], ranks.device
    dataset = build_dataset(config.data.test, {"test_mode": True})
    batches = _batches(dataset, config.model.test_cfg.rcnn.max_per_img)[ranks.rank :: ranks.world]
    loaded = load(dataset, batches, config.data.workers_per_gpu, device.type == "cuda")
    progress = _Progress(own.experiment, sum(map(len, batches)), ranks)
    amp = torch.autocast(device.type, dtype) if dtype else nullcontext()
    for indices, batch in zip(batches, loaded, strict=True):
        if preemption.requested:
            preemption.obey(_STOPPED)
        with torch.inference_mode(), amp:
            results = detector(return_loss=False, rescale=True, **to_device(batch, device))
        yield [
            entry
            for index, result in zip(indices, results, strict=True)
            for entry in _entries(result, dataset.img_ids[index], dataset.cat_ids)
        ]
        progress.add(len(indices))


def _batches(dataset: Any, detections: int) -> list[list[int]]:
    """All test batches, each B indices of images of one shape, so that none is padded."""
    shapes = [(info["height"], info["width"]) for info in dataset.data_infos]
    order = sorted(range(len(dataset)), key=lambda index: shapes[index])
    batches = []
    while order:
        height, width = shape = shapes[order[0]]
        size = min(max(_MASK_BYTES // (height * width * detections), 1), _BATCH)
        batch = [index for index in order[:size] if shapes[index] == shape]
        batches.append(batch)
        order = order[len(batch) :]
    return batches


class _Progress:
    """Says on rank 0 how far it is, which is about how far all are."""

    def __init__(self, name: str, total: int, ranks: Ranks) -> None:
        self.name, self.total, self.ranks = name, total, ranks
        self.done = 0
        self.begin = self.printed = time.monotonic()

    def add(self, images: int) -> None:
        self.done += images
        now, world = time.monotonic(), self.ranks.world
        if self.ranks.is_main and (now - self.printed > 5 or self.done == self.total):
            self.printed = now
            rate = world * self.done / (now - self.begin)
            of = f" on each of {world} ranks" if world > 1 else ""
            print(
                f"{self.name}  detected {self.done}/{self.total}{of}  {rate:.1f} img/s",
                file=sys.stderr,
                flush=True,
            )


def _entries(result: Any, image_id: int, category_ids: list[int]) -> list[dict]:
    """One image's result of mmdet as D COCO entries, coordinates rounded to 1/100 pixel.

    Args:
        result: C arrays (D, 5) float32 of x1, y1, x2, y2 in pixels and score, with masks a pair of
            these and C lists of D masks (height, width) bool.
        image_id: of the image.
        category_ids: of the C classes.
    """
    import pycocotools.mask

    boxes, masks = result if isinstance(result, tuple) else (result, None)
    entries = []
    for label, rows in enumerate(boxes):
        for row, (x1, y1, x2, y2, score) in enumerate(rows.tolist()):
            entry = {
                "image_id": image_id,
                "category_id": category_ids[label],
                "score": score,
                "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
            }
            if masks is not None:
                rle = pycocotools.mask.encode(np.asfortranarray(masks[label][row], dtype=np.uint8))
                entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
            entries.append(entry)
    return entries
