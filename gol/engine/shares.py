"""The images of a detection: one rank's share of them in batches, and what is found on each.

The batches are the same however many ranks there are; rank r of W detects on every W-th of them.

Shapes: B: images of a batch, C: classes, D: detections of an image, of all classes or of one.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import TYPE_CHECKING, Any

import torch

from gol.engine.distributed import Ranks, loading_workers
from gol.engine.per_class import Cutoffs
from gol.engine.precision import Precision

if TYPE_CHECKING:
    from gol.engine.keeping import Keeping

HALF = "train_half"
"""Half of the training images, by which a calibration is fitted."""

_BATCH = 16  # most images at once
_HALF_MOST = 5000  # images of it
_MASK_BYTES = 6 << 30  # of a batch's small masks: each detection has one of every class


class ImageShare:
    """One rank's share of the test images of a resolved config, in batches.

    Args:
        config: the resolved config.
        ranks: this process among the others.
        precision: what the detector is prepared for.
        part: ``val``, the test images, or ``train_half``: every other training image, or fewer in
            equal steps where that is more than 5,000.
        keeping: takes what is to be kept of each batch.

    Attributes:
        batches: this rank's, each B indices of images of one shape.
        rounds: the most batches that a rank has.
        total: the batches of all ranks.
    """

    def __init__(
        self,
        config: Any,
        ranks: Ranks,
        precision: Precision,
        part: str = "val",
        keeping: "Keeping | None" = None,
    ) -> None:
        from gol.models import build_dataset

        images = config.data.test
        if part == HALF:
            train = config.data.train.get("dataset", config.data.train)
            images = {**images, "ann_file": train.ann_file, "img_prefix": train.img_prefix}
        self.dataset = build_dataset(images, {"test_mode": True})
        step = max(2, math.ceil(len(self.dataset) / _HALF_MOST)) if part == HALF else 1
        size = batch_size(config.model, 1 + len(keeping.keeper.views) if keeping else 1)
        batches = _batches(self.dataset, size, step)
        self.batches, self.keeping = batches[ranks.rank :: ranks.world], keeping
        self.rank, self.world, self.total = ranks.rank, ranks.world, len(batches)
        self.rounds = math.ceil(len(batches) / ranks.world)
        self.workers, self.device = loading_workers(config, ranks.world), ranks.device
        self.precision = precision

    @property
    def count(self) -> int:
        """This rank's images."""
        return sum(map(len, self.batches))

    @property
    def classes(self) -> int:
        """C."""
        return len(self.dataset.cat_ids)

    def results(
        self,
        detector: torch.nn.Module,
        check: Callable[[], None],
        done: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[list[int], list[Any]]]:
        """Indices and mmdet's results of each of this rank's batches.

        Args:
            detector: as :func:`build_scorer` gives it, with weights.
            check: called before each batch; it may raise.
            done: is told B after each.
        """
        from gol.data.loader import load

        loaded = load(self.dataset, self.batches, self.workers, self.device.type == "cuda")
        for turn, (indices, batch) in enumerate(zip(self.batches, loaded, strict=True)):
            check()
            results = self._results(detector, batch)
            if self.keeping:
                ids = [self.dataset.img_ids[index] for index in indices]
                results = self.keeping.take(self.rank + turn * self.world, ids, results)
            yield indices, results
            if done:
                done(len(indices))

    def detections(
        self,
        detector: torch.nn.Module,
        check: Callable[[], None],
        cutoffs: Cutoffs | None = None,
    ) -> Iterator[tuple[int, Iterator[dict]]]:
        """B and the entries of each of this rank's batches; the same number on every rank.

        The entries are made as they are asked for, which needs no more of the device.

        Args:
            detector: as :func:`build_scorer` gives it, with weights.
            check: called before each batch; it may raise.
            cutoffs: the last detection of each class to keep.
        """
        for indices, results in self.results(detector, check):
            entries = (
                entry
                for index, result in zip(indices, results, strict=True)
                for entry in entries_of(
                    result,
                    self.dataset.img_ids[index],
                    self.dataset.cat_ids,
                    partial(cutoffs.keeps, index) if cutoffs else None,
                )
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


def batch_size(model: Any, times: int = 1) -> int:
    """The most images at once whose masks fit into memory, by a resolved config's model.

    Args:
        model: the resolved config's.
        times: how many times as many masks as detections there may be.
    """
    head = model.roi_head.get("mask_head")
    if head is None:
        return _BATCH
    head = head[0] if isinstance(head, list) else head
    channels = 1 if head.get("class_agnostic") else head.num_classes
    channels += 2 * head.conv_out_channels
    image = times * model.test_cfg.rcnn.max_per_img * channels * 28 * 28 * 4
    return min(max(_MASK_BYTES // image, 1), _BATCH)


def _batches(dataset: Any, size: int, step: int = 1) -> list[list[int]]:
    """The batches, each B <= size indices of images of one shape, so that none is padded.

    Of ``step`` images one is taken.
    """
    shapes = [(info["height"], info["width"]) for info in dataset.data_infos]
    order = sorted(range(0, len(dataset), step), key=lambda index: shapes[index])
    by_shape = (list(group) for _, group in groupby(order, key=lambda index: shapes[index]))
    return [group[i : i + size] for group in by_shape for i in range(0, len(group), size)]


def entries_of(
    result: Any,
    image_id: int,
    category_ids: list[int],
    keeps: Callable[[int, int, float], bool] | None = None,
) -> list[dict]:
    """One image's result of mmdet as D COCO entries, coordinates rounded to 1/100 pixel.

    Args:
        result: C arrays (D, 5) float32 of x1, y1, x2, y2 in pixels and score, with masks a pair of
            these and C lists of D RLEs.
        image_id: of the image.
        category_ids: of the C classes.
        keeps: whether to keep a detection, by its class, its place within it and its score.
    """
    boxes, masks = result if isinstance(result, tuple) else (result, None)
    entries = []
    for label, rows in enumerate(boxes):
        for row, (x1, y1, x2, y2, score) in enumerate(rows.tolist()):
            if keeps and not keeps(label, row, score):
                continue
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
