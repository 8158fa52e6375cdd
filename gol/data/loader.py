"""Batches as a pure function of (seed, epoch, iteration), so that training resumes anywhere."""

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from mmcv.parallel import DataContainer, collate
from torch.utils.data import DataLoader, Dataset


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


class EpochLoader:
    """The shuffled batches of any epoch, from any iteration within it.

    As in mmdet, a batch holds images of one orientation as far as possible (less padding): the
    left-overs of both orientations form the last batches, and the last of all may be smaller.

    Args:
        dataset: mmdet dataset with ``flag`` (0 upright, 1 lying), one entry an image.
        batch_size: images an iteration.
        seed: seed of the shuffling and the augmentation.
        workers: processes that load; 0 loads in this one.
    """

    def __init__(self, dataset: Any, batch_size: int, seed: int, workers: int = 0) -> None:
        self.dataset = SeededDataset(dataset, seed)
        self.flags = np.asarray(dataset.flag)
        self.batch_size, self.seed, self.workers = batch_size, seed, workers

    def __len__(self) -> int:
        return -(-len(self.dataset) // self.batch_size)

    def batches(self, epoch: int) -> list[list[int]]:
        """The indices of every batch of an epoch; each image once."""
        generator = np.random.default_rng(derive_seed("order", self.seed, epoch))
        order = generator.permutation(len(self.flags))
        size, full, rest = self.batch_size, [], []
        for flag in np.unique(self.flags):
            group = order[self.flags[order] == flag]
            cut = len(group) // size * size
            full += np.split(group[:cut], cut // size) if cut else []
            rest.append(group[cut:])
        full = [full[i] for i in generator.permutation(len(full))]
        left = np.concatenate(rest)
        full += [left[i : i + size] for i in range(0, len(left), size)]
        return [batch.tolist() for batch in full]

    def epoch(self, epoch: int, start: int = 0) -> Iterator[dict]:
        """Batches of an epoch from iteration ``start`` on, collated for mmdet's detectors."""
        keys = [[(epoch, index) for index in batch] for batch in self.batches(epoch)[start:]]
        return iter(
            DataLoader(
                self.dataset,
                batch_sampler=keys,
                num_workers=self.workers,
                collate_fn=lambda items: collate(items, samples_per_gpu=len(items)),
            )
        )


def to_device(batch: Any, device: torch.device) -> Any:
    """Unpacks mmcv's data containers of one batch and moves their tensors to ``device``."""
    if isinstance(batch, DataContainer):
        return batch.data[0] if batch.cpu_only else to_device(batch.data[0], device)
    if isinstance(batch, torch.Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, dict):
        return {key: to_device(value, device) for key, value in batch.items()}
    if isinstance(batch, list):
        return [to_device(value, device) for value in batch]
    return batch
