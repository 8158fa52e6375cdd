"""Batches are a pure function of seed and epoch."""

from collections import Counter

import numpy as np
import pytest

import gol.models  # noqa: F401
from gol.data.loader import EpochLoader, SeededDataset, derive_seed


class Images(list):
    """Stands for a dataset of so many upright and lying images."""

    def __init__(self, upright, lying):
        super().__init__(range(upright + lying))
        self.flag = np.array([0] * upright + [1] * lying, dtype=np.uint8)


def loader(upright, lying, seed=0):
    return EpochLoader(Images(upright, lying), batch_size=4, seed=seed)


@pytest.mark.parametrize("upright, lying", [(10, 13), (0, 9), (8, 8), (1, 0), (3, 2)])
def test_every_image_comes_once_an_epoch(upright, lying):
    batches = loader(upright, lying).batches(epoch=3)
    assert Counter(index for batch in batches for index in batch) == Counter(range(upright + lying))
    assert all(len(batch) == 4 for batch in batches[:-1])
    assert len(batches) == -(-(upright + lying) // 4)


def test_full_batches_hold_one_orientation():
    made = loader(10, 13)
    mixed = [len(set(made.flags[batch])) > 1 for batch in made.batches(0)]
    assert not any(mixed[:5]) and sum(mixed) <= 1


def test_order_follows_seed_and_epoch():
    assert loader(9, 9).batches(1) == loader(9, 9).batches(1)
    assert loader(9, 9).batches(1) != loader(9, 9).batches(2)
    assert loader(9, 9).batches(1) != loader(9, 9, seed=1).batches(1)


class Noise:
    """A dataset whose items are drawn from the global generators, as mmdet's transforms do."""

    flag = np.zeros(11, dtype=np.uint8)

    def __len__(self):
        return len(self.flag)

    def __getitem__(self, index):
        return {"value": np.random.rand()}


def test_an_item_does_not_depend_on_what_was_loaded_before():
    dataset = SeededDataset(Noise(), seed=5)
    alone = dataset[2, 7]
    np.random.rand(100)
    assert dataset[2, 7] == alone
    assert dataset[3, 7] != alone and dataset[2, 8] != alone


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_resumed_in_the_middle_yields_the_same_batches(workers):
    made = EpochLoader(Noise(), batch_size=3, seed=1, workers=workers)
    whole = [batch["value"].tolist() for batch in made.epoch(2)]
    assert [batch["value"].tolist() for batch in made.epoch(2, start=2)] == whole[2:]
    assert len(whole) == len(made) == 4


def test_seeds_of_different_parts_differ():
    seeds = {
        derive_seed("item", seed, epoch, index)
        for seed in range(5)
        for epoch in range(5)
        for index in range(40)
    }
    assert len(seeds) == 1000
