"""Batches as a pure function of (seed, epoch, iteration), so that training resumes anywhere.

Shapes: W: ranks, N: images of an iteration, M: micro-batches of an iteration on all ranks, B:
images of a micro-batch, h × w: their padded size, G: objects of an image.
"""

import math
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmcv.parallel import DataContainer
from torch.utils.data import DataLoader, Dataset

from gol.data.pixels import collate_items
from gol.errors import UserError, choices


def derive_seed(stream: str, *parts: int) -> int:
    """One 32-bit seed from several integers; streams of different names are independent."""
    entropy = (*stream.encode(), *parts)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


class SeededDataset(Dataset):
    """Draws an item's augmentation from (seed, epoch, index), in whatever process it is loaded."""

    def __init__(self, dataset: Any, seed: int) -> None:
        self.dataset, self.seed = dataset, seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> dict:
        """The item of ``key`` = (epoch, index)."""
        seed = derive_seed("item", self.seed, *key)
        # mmdet's transforms draw from both global generators.
        random.seed(seed)
        np.random.seed(seed)
        return self.dataset[key[1]]


def micro_batch_size(batch_size: int, global_batch: int, world: int) -> int:
    """Images that a rank takes at once: ``batch_size``, or less where there are many ranks.

    Raises:
        UserError: the images of an iteration cannot be shared out evenly.
    """
    if global_batch % batch_size:
        raise UserError(
            f"data.samples_per_gpu {batch_size} does not divide gol.global_batch {global_batch}; "
            f"allowed: {choices(n for n in range(1, global_batch + 1) if global_batch % n == 0)}"
        )
    batches = global_batch // batch_size
    allowed = [
        n
        for n in range(1, global_batch + 1)
        if (batches if n <= batches else global_batch) % n == 0
    ]
    if world not in allowed:
        raise UserError(
            f"{world} ranks cannot share {global_batch} images per iteration (gol.global_batch) in "
            f"micro-batches of {batch_size} (data.samples_per_gpu); allowed: {choices(allowed)}"
        )
    return min(batch_size, global_batch // world)


class EpochLoader:
    """One rank's part of the shuffled images of any epoch, from any iteration within it.

    An iteration takes N = ``global_batch`` images, the last of an epoch those that are left, as M
    *micro-batches*; rank r of W takes every W-th, from the r-th on. Which images an iteration and
    (unless there are so many ranks that they shrink) a micro-batch hold does not depend on W.

    As in mmdet, a batch holds images of one orientation as far as possible (less padding): the
    left-overs of both orientations form the last batches, and the last of all may be smaller.

    Args:
        dataset: mmdet dataset with ``flag`` (0 upright, 1 lying), one entry per image.
        batch_size: images per micro-batch.
        seed: seed of the shuffling and the augmentation.
        workers: processes that load; 0 loads in this one.
        global_batch: images per iteration; by default one micro-batch.
        rank: number of this process.
        world: number of processes.
        pin: puts tensors into pinned memory, from which copies to a GPU do not block.

    Raises:
        UserError: the images of an iteration cannot be shared out evenly.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        seed: int,
        workers: int = 0,
        global_batch: int | None = None,
        rank: int = 0,
        world: int = 1,
        pin: bool = False,
    ) -> None:
        self.dataset = SeededDataset(dataset, seed)
        self.flags = np.asarray(dataset.flag)
        self.batch_size, self.seed, self.workers = batch_size, seed, workers
        self.global_batch = global_batch or batch_size
        self.rank, self.world, self.pin = rank, world, pin
        self.micro_batch = micro_batch_size(batch_size, self.global_batch, world)

    def __len__(self) -> int:
        """Iterations per epoch."""
        return math.ceil(len(self.dataset) / self.global_batch)

    def images(self, position: int) -> int:
        """N: images that all ranks together take in the epoch's iteration ``position``."""
        return min(self.global_batch, len(self.dataset) - position * self.global_batch)

    def count(self, position: int) -> int:
        """M: micro-batches that all ranks together take in the epoch's iteration ``position``."""
        return math.ceil(self.images(position) / self.micro_batch)

    def own(self, position: int) -> list[tuple[int, float]]:
        """This rank's micro-batches in that iteration: ceil(M / W) numbers and weights.

        Where too few are left it repeats another's with weight 0, so that every rank takes part
        in each exchange of gradients.
        """
        count = self.count(position)
        turns = range(math.ceil(count / self.world))
        numbers = [turn * self.world + self.rank for turn in turns]
        return [(number % count, float(number < count)) for number in numbers]

    def batches(self, epoch: int) -> list[list[int]]:
        """The B indices of every micro-batch of an epoch, for all ranks; each image once."""
        order, size, micro = self._order(epoch), self.global_batch, self.micro_batch
        parts = [order[i : i + size] for i in range(0, len(order), size)]
        return [part[i : i + micro] for part in parts for i in range(0, len(part), micro)]

    def _order(self, epoch: int) -> list[int]:
        generator = np.random.default_rng(derive_seed("order", self.seed, epoch))
        order = generator.permutation(len(self.flags))
        size, full, rest = self.batch_size, [], []
        for flag in np.unique(self.flags):
            group = order[self.flags[order] == flag]
            cut = len(group) // size * size
            full += np.split(group[:cut], cut // size) if cut else []
            rest.append(group[cut:])
        full = [full[i] for i in generator.permutation(len(full))]
        return np.concatenate(full + rest).tolist()

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        """This rank's micro-batches of an epoch from iteration ``start`` on, in order."""
        batches, every = self.batches(epoch), self.global_batch // self.micro_batch
        mine = [
            [(epoch, index) for index in batches[position * every + number]]
            for position in range(start, len(self))
            for number, _ in self.own(position)
        ]
        return load(self.dataset, mine, self.workers, self.pin)


def load(dataset: Any, batches: list[list], workers: int = 0, pin: bool = False) -> Iterator[dict]:
    """The items of each batch, collated for mmdet's detectors, on the CPU.

    A training batch has ``img`` (B, 3, h, w) float32 and lists of length B: ``img_metas``,
    ``gt_bboxes`` (G, 4) float32 in pixels, ``gt_labels`` (G,) int64 and ``gt_masks``, mmdet's
    BitmapMasks (G, h, w) uint8, drawn when looked at. A test batch has lists of length 1, for one
    scale, of ``img`` and ``img_metas``.

    Args:
        dataset: gives an item for a key.
        batches: the keys of each batch.
        workers: processes that load; 0 loads in this one.
        pin: puts tensors into pinned memory.

    Raises:
        UserError: what the dataset says of an item, for instance that its image is damaged.
    """
    loader = DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=lambda items: _unpack(collate_items(items)),
        pin_memory=pin,
    )
    try:
        yield from loader
        return
    except UserError as error:  # torch appends a worker's error to its traceback
        text = str(error).strip().splitlines()[-1]
        # Its frames hold the workers: left to the garbage collector they take 5 s each to end.
        error.__traceback__ = None
    raise UserError(text.removeprefix(f"{UserError.__module__}.UserError: "))


def _unpack(batch: Any) -> Any:
    """Takes what mmcv's data containers hold for the one device that there is in a process."""
    if isinstance(batch, DataContainer):
        return batch.data[0] if batch.cpu_only else _unpack(batch.data[0])
    if isinstance(batch, dict):
        return {key: _unpack(value) for key, value in batch.items()}
    if isinstance(batch, list):
        return [_unpack(value) for value in batch]
    return batch


def on_device(
    batches: Iterator[Any],
    device: torch.device,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Iterator[Any]:
    """Moves batches to ``device``; on CUDA the next one is copied while this one is used."""
    if device.type != "cuda":
        yield from (to_device(batch, device, memory_format) for batch in batches)
        return
    copies, ready = torch.cuda.Stream(device), []
    for batch in batches:
        with torch.cuda.stream(copies):
            ready.append((to_device(batch, device, memory_format), copies.record_event()))
        if len(ready) > 1:
            yield _arrived(*ready.pop(0))
    for moved, event in ready:
        yield _arrived(moved, event)


def _arrived(batch: Any, copied: torch.cuda.Event) -> Any:
    """The batch, which what the current stream does next waits for."""
    stream = torch.cuda.current_stream()
    stream.wait_event(copied)
    _in_use(batch, stream)
    return batch


def _in_use(batch: Any, stream: torch.cuda.Stream) -> None:
    """Keeps the memory, which another stream has asked for, until ``stream`` has done with it."""
    if isinstance(batch, torch.Tensor):
        batch.record_stream(stream)
    elif isinstance(batch, dict | list):
        for value in batch.values() if isinstance(batch, dict) else batch:
            _in_use(value, stream)


def to_device(
    batch: Any,
    device: torch.device,
    memory_format: torch.memory_format = torch.preserve_format,
) -> Any:
    """Moves the tensors of a batch to ``device``, images into a memory format."""
    if isinstance(batch, torch.Tensor):
        layout = memory_format if batch.ndim == 4 else torch.preserve_format
        return batch.to(device, non_blocking=True, memory_format=layout)
    if isinstance(batch, dict):
        return {key: to_device(value, device, memory_format) for key, value in batch.items()}
    if isinstance(batch, list):
        return [to_device(value, device, memory_format) for value in batch]
    return batch
