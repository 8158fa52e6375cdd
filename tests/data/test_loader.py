"""Batches are a pure function of seed and epoch."""

from collections import Counter
from itertools import chain

import numpy as np
import pytest
import torch
from seeds import fresh_seed

import gol.models  # noqa: F401
from gol.data.loader import (
    EpochLoader,
    SeededDataset,
    derive_seed,
    load,
    micro_batch_size,
    on_device,
)
from gol.errors import UserError


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


def ranks_loaders(world, images=(37, 26), micro=4, whole=16):
    return [
        EpochLoader(Images(*images), micro, seed=3, global_batch=whole, rank=rank, world=world)
        for rank in range(world)
    ]


def iteration(loader, epoch, position):
    """The image lists of a rank's micro-batches that count."""
    every = loader.global_batch // loader.micro_batch
    batches = loader.batches(epoch)
    return {n: batches[position * every + n] for n, weight in loader.own(position) if weight}


@pytest.mark.parametrize(
    "upright, lying", np.random.default_rng(fresh_seed()).integers(0, 60, (5, 2)).tolist()
)
def test_the_order_does_not_depend_on_the_number_of_ranks(upright, lying):
    images = (upright + 1, lying)
    (single,) = ranks_loaders(1, images)
    for world in (2, 4, 8, 16):
        loaders = ranks_loaders(world, images)
        assert {len(made) for made in loaders} == {len(single)}
        for position in range(len(single)):
            parts = {}
            for made in loaders:
                parts |= iteration(made, 1, position)
            expected = iteration(single, 1, position)
            if world <= 4:
                assert parts == expected
            together = list(chain.from_iterable(parts[n] for n in sorted(parts)))
            assert together == list(chain.from_iterable(expected.values()))
            assert len(together) == single.images(position)


@pytest.mark.parametrize("world", [1, 2, 4, 8])
def test_every_rank_takes_part_equally_often(world):
    loaders = ranks_loaders(world)
    for position in range(len(loaders[0])):
        turns = [made.own(position) for made in loaders]
        assert len({len(own) for own in turns}) == 1
        weights = sum(weight for own in turns for _, weight in own)
        assert weights == loaders[0].count(position)
        assert all(number < weights for own in turns for number, _ in own)


@pytest.mark.parametrize(
    "sizes, words",
    [
        (
            (3, 8, 1),
            "samples_per_gpu 3 does not divide gol.global_batch 8; allowed: 1, 2, 4, 8",
        ),
        ((4, 16, 3), "3 ranks cannot share 16 images .*allowed: 1, 2, 4, 8, 16"),
        ((4, 16, 32), "32 ranks cannot share 16 images .*allowed: 1, 2, 4, 8, 16"),
    ],
)
def test_sizes_that_do_not_fit_are_named(sizes, words):
    with pytest.raises(UserError, match=words):
        micro_batch_size(*sizes)
    assert [micro_batch_size(4, 16, world) for world in (1, 2, 4, 8, 16)] == [4, 4, 4, 2, 1]


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


class Damaged(Noise):
    def __getitem__(self, index):
        raise UserError(f"image {index}.jpg is missing or damaged")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_is_wrong_with_an_item_is_one_line(workers):
    with pytest.raises(UserError) as error:
        next(load(Damaged(), [[3, 4]], workers))
    assert str(error.value) == "image 3.jpg is missing or damaged"


@pytest.mark.parametrize("place", ["cpu", "cuda"])
def test_batches_arrive_on_the_device_whole_and_in_order(place):
    if place == "cuda" and not torch.cuda.is_available():
        pytest.skip("no GPU")
    images = [torch.randn(2, 3, 64, 96) for _ in range(5)]
    batches = [{"img": image, "boxes": [torch.rand(4), "a"]} for image in images]
    found = on_device(iter(batches), torch.device(place), torch.channels_last)
    for wanted, batch in zip(batches, found, strict=True):
        assert batch["img"].device.type == batch["boxes"][0].device.type == place
        assert batch["img"].is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(batch["img"].cpu(), wanted["img"], rtol=0, atol=0)
        assert torch.equal(batch["boxes"][0].cpu(), wanted["boxes"][0])
        assert batch["boxes"][1] == "a"
