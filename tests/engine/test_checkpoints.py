"""Checkpoints: atomic, without code, pruned, strict."""

import pickle

import pytest
import torch

from gol.engine.checkpoints import checkpoint_path, newest_checkpoint, prune, save_checkpoint
from gol.errors import UserError
from gol.models.state import load_checkpoint, load_weights


@pytest.fixture
def linear():
    return torch.nn.Linear(4, 3)


def test_round_trip(tmp_path, linear):
    save_checkpoint(tmp_path / "a.pth", state_dict=linear.state_dict(), meta={"iter": 3})
    content = load_checkpoint(tmp_path / "a.pth")
    assert content["meta"] == {"iter": 3}
    assert torch.equal(content["state_dict"]["weight"], linear.weight)


def test_a_truncated_newest_checkpoint_falls_back_to_the_one_before(tmp_path):
    for iteration in (5, 10):
        save_checkpoint(checkpoint_path(tmp_path, iteration), meta={"iter": iteration})
    newest = checkpoint_path(tmp_path, 10)
    newest.write_bytes(newest.read_bytes()[:-40])
    assert newest_checkpoint(tmp_path)["meta"]["iter"] == 5
    assert newest_checkpoint(tmp_path / "none") is None


def test_only_the_newest_two_are_kept(tmp_path):
    for iteration in (99, 100, 1000, 20000):
        save_checkpoint(checkpoint_path(tmp_path, iteration), meta={"iter": iteration})
    prune(tmp_path, checkpoint_path(tmp_path, 20000))
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "iteration_00001000.pth",
        "iteration_00020000.pth",
    ]


def test_the_newest_valid_one_outlives_damaged_later_ones(tmp_path):
    for iteration in (30, 40):
        checkpoint_path(tmp_path, iteration).write_bytes(b"torn")
    for iteration in (5, 10, 15):
        newest = checkpoint_path(tmp_path, iteration)
        save_checkpoint(newest, meta={"iter": iteration})
        prune(tmp_path, newest)
    assert newest_checkpoint(tmp_path)["meta"]["iter"] == 15
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "iteration_00000010.pth",
        "iteration_00000015.pth",
    ]


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
