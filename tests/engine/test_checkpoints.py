"""Checkpoints: atomic, without code, pruned, strict."""

import errno
import os
import pickle
import resource
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from gol.engine.checkpoints import checkpoint_path, newest_checkpoint, prune, save_checkpoint
from gol.errors import UserError
from gol.models.state import DamagedError, load_checkpoint, load_weights

META = {"fingerprint": "f", "seconds": 1.5, "started": 2.0}


def save(folder, iteration, **content):
    """A checkpoint as a training writes it, small."""
    meta = {**META, "iter": iteration}
    parts = {"state_dict": {"a": torch.rand(9)}, "optimizer": {}, "scaler": {}, "meta": meta}
    path = checkpoint_path(folder, iteration)
    save_checkpoint(path, **parts | content)
    return path


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def linear():
    return torch.nn.Linear(4, 3)


def test_round_trip(tmp_path, linear):
    save_checkpoint(tmp_path / "a.pth", state_dict=linear.state_dict(), meta={"iter": 3})
    content = load_checkpoint(tmp_path / "a.pth")
    assert content["meta"] == {"iter": 3}
    assert torch.equal(content["state_dict"]["weight"], linear.weight)


def flip(path, place):
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(b"torn"),
        lambda path: flip(path, path.read_bytes().index(b"data/0") + 80),  # a weight
        lambda path: flip(path, 0),
        lambda path: flip(path, -22),  # where the directory is said to be
    ],
    ids=["cut", "empty", "other", "weight", "start", "end"],
)
def test_a_damaged_newest_checkpoint_is_set_aside_for_the_one_before(tmp_path, capsys, spoil):
    wanted = torch.rand(5)
    save(tmp_path, 5, state_dict={"a": wanted})
    newest = save(tmp_path, 10, state_dict={"a": torch.rand(999)})
    spoil(newest)
    content = newest.read_bytes()
    with pytest.raises(DamagedError):
        load_checkpoint(newest)
    assert torch.equal(newest_checkpoint(tmp_path)["state_dict"]["a"], wanted)
    assert "it is now iteration_00000010.pth.damaged, and the checkpoint before is taken" in (
        capsys.readouterr().err
    )
    assert (tmp_path / "iteration_00000010.pth.damaged").read_bytes() == content
    assert not newest.exists()


def test_without_a_checkpoint_it_begins_anew_and_says_so_where_one_was_damaged(tmp_path, capsys):
    assert newest_checkpoint(tmp_path) is newest_checkpoint(tmp_path / "none") is None
    assert capsys.readouterr().err == ""
    flip(save(tmp_path, 5), 0)
    assert newest_checkpoint(tmp_path) is None
    assert "has no other checkpoint: beginning anew" in capsys.readouterr().err


@contextmanager
def no_descriptors(path):
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def failing(method, error):
    """One read or decoding that fails, as a bad sector or a full memory makes it fail."""

    @contextmanager
    def fail(path):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(*method, lambda *_, **__: (_ for _ in ()).throw(error))
            yield

    return fail


NO_ROOM = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"


@pytest.mark.parametrize(
    ("moment", "words"),
    [
        (no_descriptors, "cannot read .*: Too many open files"),
        (failing((Path, "read_bytes"), OSError(errno.EIO, "Input/output error")), "cannot read"),
        (failing((Path, "read_bytes"), MemoryError()), "does not fit into memory"),
        (failing((torch, "load"), RuntimeError(NO_ROOM)), "does not fit into memory"),
        (failing((torch, "load"), MemoryError()), "does not fit into memory"),
    ],
    ids=["EMFILE", "EIO", "ENOMEM", "torch's ENOMEM", "MemoryError"],
)
def test_a_good_checkpoint_survives_a_bad_moment(tmp_path, moment, words):
    for iteration in (5, 10):
        save(tmp_path, iteration)
    before = names(tmp_path)
    with moment(tmp_path), pytest.raises(UserError, match=words) as caught:
        newest_checkpoint(tmp_path)
    assert not isinstance(caught.value, DamagedError)
    assert names(tmp_path) == before and newest_checkpoint(tmp_path)["meta"]["iter"] == 10


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"meta": {"epoch": 3}}, "key 'meta.iter' is missing"),
        ({"meta": None}, "key 'meta' must be an object"),
        ({"optimizer": [1]}, "key 'optimizer' must be an object"),
        ({"state_dict": torch.zeros(2)}, "key 'state_dict' must be an object"),
        ({"meta": {**META, "iter": 7}}, "its name says another number than its meta.iter, 7"),
    ],
)
def test_a_planted_checkpoint_of_another_form_is_named_and_left(tmp_path, content, words):
    save(tmp_path, 5)
    save(tmp_path, 10, **content)
    with pytest.raises(UserError, match=f"10.pth is not a checkpoint of `gol train`: {words}"):
        newest_checkpoint(tmp_path)
    assert len(names(tmp_path)) == 2


def test_only_the_newest_two_are_kept_and_later_ones_left_alone(tmp_path):
    for iteration in (99, 100, 1000, 20000, 30000):
        save(tmp_path, iteration)
    prune(tmp_path, checkpoint_path(tmp_path, 20000))
    assert names(tmp_path) == [f"iteration_{i:08d}.pth" for i in (1000, 20000, 30000)]


def test_checkpoints_without_checksums_are_read(tmp_path):
    """torch's format before 1.6, and files saved without."""
    state = {"a": torch.rand(9)}
    torch.save(state, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(state, tmp_path / "unchecked.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    for name in ("old", "unchecked"):
        assert torch.equal(load_checkpoint(tmp_path / f"{name}.pth")["a"], state["a"])


def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.pth", pickle_module=pickle)
    with pytest.raises(UserError, match="not a checkpoint of tensors"):
        load_checkpoint(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.pop("bias"), "missing bias"),
        (lambda state: state.update(extra=torch.zeros(1)), "unexpected extra"),
        (
            lambda state: state.update(weight=torch.zeros(5, 4)),
            r"weight is \(5, 4\), the model has \(3, 4\)",
        ),
        (
            lambda state: state.update(weight=torch.zeros(3, 4).to_sparse()),
            "weight is sparse",
        ),
        (
            lambda state: state.update(
                weight=torch.quantize_per_tensor(torch.zeros(3, 4), 0.1, 0, torch.qint8)
            ),
            "weight is quantised",
        ),
    ],
)
def test_weights_that_do_not_fit_are_named(tmp_path, linear, change, words):
    state = dict(linear.state_dict())
    change(state)
    save_checkpoint(tmp_path / "a.pth", state_dict=state)
    with pytest.raises(UserError, match=words):
        load_weights(linear, tmp_path / "a.pth")


@pytest.mark.parametrize(
    "content, words",
    [
        ({"state_dict": None}, "holds no state dict"),
        ({"state_dict": [1, 2]}, "holds no state dict"),
        ({"state_dict": {1: torch.zeros(1)}}, "holds no state dict"),
        ({"state_dict": {}, "meta": [1]}, "its meta is a list, not a dict"),
        ({"state_dict": {}, "meta": None}, "was trained with another configuration"),
    ],
)
def test_a_checkpoint_of_another_form_is_named(tmp_path, linear, content, words):
    save_checkpoint(tmp_path / "a.pth", **content)
    with pytest.raises(UserError, match=words):
        load_weights(linear, tmp_path / "a.pth", "fingerprint")


def test_a_checkpoint_without_meta_loads(tmp_path, linear):
    wanted = torch.nn.Linear(4, 3)
    save_checkpoint(tmp_path / "a.pth", state_dict=wanted.state_dict(), meta=None)
    load_weights(linear, tmp_path / "a.pth")
    assert torch.equal(linear.weight, wanted.weight)
