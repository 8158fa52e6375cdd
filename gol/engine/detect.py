"""Checkpoint in, detections out: one JSON list in COCO's result format.

The batches are the same however many ranks there are; rank r of W detects on every W-th of them.

Shapes: B: images of a batch, C: classes, D: detections of an image, of all classes or of one.
"""

import math
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from gol.config.own import own_part
from gol.config.resolve import fingerprint, load_config
from gol.engine.distributed import Ranks, join, loading_workers
from gol.engine.precision import Precision, find_precision
from gol.engine.preemption import Preemption
from gol.engine.shards import write_sharded
from gol.errors import UserError
from gol.models.state import DamagedError, load_weights
from gol.run_folder import RunFolder

_STOPPED = "the detection was asked to stop (SIGUSR2) and begins anew"
_OPTIMISTIC = (
    "weights {name}, which validation chose by the same images: their score is a little optimistic "
    "(--last: the final weights)"
)
_BATCH = 16  # most images at once
_MASK_BYTES = 6 << 30  # of a batch's small masks: each detection has one of every class


def detect(
    run: str | Path,
    out: str | Path,
    scoring: str | None = None,
    checkpoint: str | Path | None = None,
    device: str | None = None,
    last: bool = False,
) -> int:
    """Detects on the test images of a run's dataset; called in every process of a job.

    Args:
        run: folder of a trained run.
        out: JSON file to write: a list of {image_id, category_id, score, bbox (x, y, w, h in
            pixels), segmentation (compressed RLE)}.
        scoring: activation that turns logits into scores; default the config's first.
        checkpoint: weights to use instead of the run's own, which are those that scored best where
            the training validated, else the last.
        device: ``cpu``, ``cuda`` …; by default CUDA where there is a GPU, one per rank.
        last: use the last weights in any case.

    Returns:
        The number of detections.

    Raises:
        UserError: no config or checkpoint, a checkpoint of other classes, unknown scoring, a
            damaged image, a full disk, both ``checkpoint`` and ``last``.
        PeerError: another rank failed.
        Interrupted: SIGUSR2 came and no other handler took over.
    """
    if checkpoint and last:
        raise UserError("--checkpoint and --last both name weights: give one of them")
    with Preemption() as preemption, join(device) as ranks:
        config = load_config(run)
        own = own_part(config)
        scoring = own.scoring(scoring)
        torch.set_num_threads(own.threads)
        wanted = None if checkpoint else fingerprint(config)
        folder = RunFolder(run)
        weights = checkpoint or (folder.weights if last else folder.chosen)
        if weights == folder.best and ranks.is_main:
            text = f"{own.experiment}  {_OPTIMISTIC.format(name=weights.name)}"
            print(text, file=sys.stderr, flush=True)

        def check() -> None:
            if preemption.requested:
                preemption.obey(_STOPPED)

        def chunks() -> Iterator[Iterator[dict]]:
            # Begins when the list is this job's, so that no GPU is held while it waits.
            try:
                detector = build_scorer(config, scoring, ranks.device)
                precision = find_precision(own, ranks.device, _load(detector, weights, wanted))
                detector = precision.prepare(detector)
                images = ImageShare(config, ranks, precision)
                progress = _Progress(own.experiment, images.count, ranks)
                for count, entries in images.detections(detector, check):
                    yield entries
                    progress.add(count)
            except OSError as error:  # of reading; the list's own are named where it is written
                where = f"{error.filename}: " if error.filename else ""
                raise UserError(f"cannot detect: {where}{error.strerror or error}") from error

        return write_sharded(out, chunks(), ranks, preemption.at_once(_STOPPED))


def build_scorer(config: Any, scoring: str, device: torch.device) -> torch.nn.Module:
    """The detector of a resolved config as it detects, without weights or precision yet.

    Args:
        config: the resolved config.
        scoring: activation that turns logits into scores.
        device: where it is put.
    """
    from gol.models import build_detector, lazy_masks, set_scoring
    from gol.models.postprocess import set_postprocessing

    # The weights come from a checkpoint: nothing is loaded to be overwritten.
    detector = build_detector(config, initialise=False)
    set_scoring(detector, scoring)
    set_postprocessing(detector)
    lazy_masks(detector)  # before a precision makes float32 of the masks of all classes
    return detector.to(device).eval()


def _load(
    detector: torch.nn.Module, weights: str | Path, fingerprint: str | None
) -> dict[str, Any]:
    """Loads weights of a run; returns their meta."""
    try:
        return load_weights(detector, weights, fingerprint)
    except DamagedError as error:
        remedy = "; remove it, and `gol train` writes it again from the last checkpoint"
        if Path(weights).name == RunFolder("").best.name:
            remedy = "; --last takes the final weights instead"
        raise UserError(f"{error}{remedy if fingerprint else ''}") from error


class ImageShare:
    """One rank's share of the test images of a resolved config, in batches.

    Args:
        config: the resolved config.
        ranks: this process among the others.
        precision: what the detector is prepared for.

    Attributes:
        batches: this rank's, each B indices of images of one shape.
        rounds: the most batches that a rank has.
    """

    def __init__(self, config: Any, ranks: Ranks, precision: Precision) -> None:
        from gol.models import build_dataset

        self.dataset = build_dataset(config.data.test, {"test_mode": True})
        batches = _batches(self.dataset, _batch_size(config.model))
        self.batches = batches[ranks.rank :: ranks.world]
        self.rounds = math.ceil(len(batches) / ranks.world)
        self.workers, self.device = loading_workers(config, ranks.world), ranks.device
        self.precision = precision

    @property
    def count(self) -> int:
        """This rank's images."""
        return sum(map(len, self.batches))

    def detections(
        self, detector: torch.nn.Module, check: Callable[[], None]
    ) -> Iterator[tuple[int, Iterator[dict]]]:
        """B and the entries of each of this rank's batches; the same number on every rank.

        The entries are made as they are asked for, which needs no more of the device.

        Args:
            detector: as :func:`build_scorer` gives it, with weights.
            check: called before each batch; it may raise.
        """
        from gol.data.loader import load

        loaded = load(self.dataset, self.batches, self.workers, self.device.type == "cuda")
        for indices, batch in zip(self.batches, loaded, strict=True):
            check()
            results = self._results(detector, batch)
            entries = (
                entry
                for index, result in zip(indices, results, strict=True)
                for entry in _entries(result, self.dataset.img_ids[index], self.dataset.cat_ids)
            )
            yield len(indices), entries
        for _ in range(self.rounds - len(self.batches)):
            check()
            yield 0, iter(())

    def _results(self, detector: torch.nn.Module, batch: dict[str, Any]) -> list[Any]:
        """mmdet's results of B images."""
        from gol.data.loader import to_device

        batch = to_device(batch, self.device, self.precision.memory_format)
        with torch.inference_mode(), self.precision.autocast(self.device):
            return detector(return_loss=False, rescale=True, **batch)


def _batch_size(model: Any) -> int:
    """The most images at once whose masks fit into memory, by a resolved config's model."""
    head = model.roi_head.get("mask_head")
    if head is None:
        return _BATCH
    head = head[0] if isinstance(head, list) else head
    channels = 1 if head.get("class_agnostic") else head.num_classes
    channels += 2 * head.conv_out_channels
    image = model.test_cfg.rcnn.max_per_img * channels * 28 * 28 * 4
    return min(max(_MASK_BYTES // image, 1), _BATCH)


def _batches(dataset: Any, size: int) -> list[list[int]]:
    """All test batches, each B <= size indices of images of one shape, so that none is padded."""
    shapes = [(info["height"], info["width"]) for info in dataset.data_infos]
    order = sorted(range(len(dataset)), key=lambda index: shapes[index])
    by_shape = (list(group) for _, group in groupby(order, key=lambda index: shapes[index]))
    return [group[i : i + size] for group in by_shape for i in range(0, len(group), size)]


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
            left = timedelta(seconds=round((self.total - self.done) * world / rate))
            print(
                f"{self.name}  detected {self.done}/{self.total}{of}  {rate:.1f} img/s  "
                f"left {left}",
                file=sys.stderr,
                flush=True,
            )


def _entries(result: Any, image_id: int, category_ids: list[int]) -> list[dict]:
    """One image's result of mmdet as D COCO entries, coordinates rounded to 1/100 pixel.

    Args:
        result: C arrays (D, 5) float32 of x1, y1, x2, y2 in pixels and score, with masks a pair of
            these and C lists of D RLEs.
        image_id: of the image.
        category_ids: of the C classes.
    """
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
                entry["segmentation"] = masks[label][row]
            entries.append(entry)
    return entries
