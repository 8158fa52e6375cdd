"""Weights that other programs wrote: read as they are meant, or refused by what they are."""

import argparse
import bz2
import gzip
import io
import lzma
import pickle
import sys
import tarfile
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from gol import compat
from gol.errors import UserError
from gol.models.state import load_weights
from gol.models.weights import load_backbone

R18 = {
    "type": "ResNet",
    "depth": 18,
    "base_channels": 16,
    "num_stages": 3,
    "strides": [1, 2, 2],
    "dilations": [1, 1, 1],
    "out_indices": [0, 1, 2],
}


def build():
    compat.apply()
    from mmdet.models import build_backbone

    return build_backbone(R18)


@pytest.fixture(scope="module")
def state():
    # fractions that bfloat16 holds too; BatchNorm's counters, which a form may lack, as they begin
    return {
        k: torch.rand(v.shape).bfloat16().to(v.dtype) if v.is_floating_point() else v
        for k, v in build().state_dict().items()
    }


def below(prefix, state):
    return {prefix + name: value for name, value in state.items()}


def copies(state):
    """mmcv's second set of weights: buffers of the detector, named without dots."""
    return below(
        "ema_backbone_", {k.replace(".", "_"): torch.zeros_like(v) for k, v in state.items()}
    )


def foreign_class(monkeypatch, module, name, base=object):
    """A class that only the program that wrote the file has."""
    kind = type(name, (base,), {"__module__": module})
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        part = ".".join(parts[:count])
        monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
    setattr(sys.modules[module], name, kind)
    return kind


FORMS = {
    "DDP": (lambda s: below("module.", s), "without the prefix 'module.'"),
    "compiled": (lambda s: below("_orig_mod.", s), "without the prefix '_orig_mod.'"),
    "Lightning": (
        lambda s: {"state_dict": below("model.", s), "pytorch-lightning_version": "2.5"},
        "without the prefix 'model.'",
    ),
    "backbone": (lambda s: below("backbone.", s), "without the prefix 'backbone.'"),
    "detector in DDP": (
        lambda s: {"state_dict": below("module.backbone.", s) | {"module.neck.x": torch.ones(1)}},
        "'module.'; without the prefix 'backbone.', which 1 of 91 lack: left out (neck.x …)",
    ),
    "mmcv's EMA": (
        lambda s: {"state_dict": below("backbone.", s) | copies(s), "meta": None},
        "without 90 copies for averaging (ema_…); without the prefix 'backbone.'",
    ),
    "mmengine's EMA": (
        lambda s: {"state_dict": s, "ema_state_dict": {"steps": torch.ones(1)}},
        "the weights below 'state_dict', not 'ema_state_dict'",
    ),
    "only averaged": (
        lambda s: {"ema_state_dict": below("module.", s) | {"steps": torch.ones(1)}},
        "the weights below 'ema_state_dict'; without the prefix 'module.', which 1 of 91 lack",
    ),
    "timm": (
        lambda s: {"state_dict": s, "state_dict_ema": {}, "args": argparse.Namespace(lr=1)},
        "the weights below 'state_dict', not 'state_dict_ema'",
    ),
    "DeiT": (
        lambda s: {"model": s, "model_ema": {}, "args": argparse.Namespace(out=Path("x"))},
        "the weights below 'model', not 'model_ema'",
    ),
    "tutorial": (lambda s: {"model_state_dict": s, "optimizer_state_dict": {}}, ""),
    "half": (lambda s: {k: v.bfloat16() for k, v in s.items() if v.is_floating_point()}, ""),
}


@pytest.mark.parametrize("form", FORMS)
def test_weights_of_other_programs_load_and_stderr_names_what_was_done(
    tmp_path, state, form, capsys
):
    make, said = FORMS[form]
    torch.save(make(state), tmp_path / "w.pth")
    backbone = build()
    load_backbone(backbone, {"file": str(tmp_path / "w.pth")})
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, state[name]), name
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == bool(said) and all(said in line for line in lines)


def test_objects_of_other_programs_are_left_out_without_their_code(tmp_path, monkeypatch, state):
    module = "mmengine.logging.history_buffer"
    history = foreign_class(monkeypatch, module, "HistoryBuffer")()
    history._log_history = np.arange(3.0)
    node = foreign_class(monkeypatch, "yacs.config", "CfgNode", dict)
    settings = node(MODEL=node(DEPTH=18))
    settings._immutable = True
    content = {"state_dict": state, "message_hub": {"loss": history}, "config": settings}
    torch.save(content, tmp_path / "w.pth")
    for name in [name for name in sys.modules if name.startswith(("mmengine", "yacs"))]:
        monkeypatch.delitem(sys.modules, name)
    load_backbone(build(), {"file": str(tmp_path / "w.pth")})


def test_numbers_that_numpy_2_pickled_are_read(tmp_path, monkeypatch, state):
    core = np.core.multiarray
    for function in (core.scalar, core._reconstruct):
        monkeypatch.setattr(function, "__module__", "numpy._core.multiarray")
    torch.save({"state_dict": state, "meta": {"best": np.float64(1)}}, tmp_path / "w.pth")
    monkeypatch.undo()
    assert b"numpy._core" in (tmp_path / "w.pth").read_bytes()
    load_backbone(build(), {"file": str(tmp_path / "w.pth")})


def test_safetensors_are_read_with_the_bounds_checked(tmp_path, state):
    path = tmp_path / "model.bin"  # the content says what it is, not the name
    content = safetensors.torch.save(state)
    path.write_bytes(content)
    backbone = build()
    load_backbone(backbone, {"file": str(path)})
    assert torch.equal(backbone.conv1.weight, state["conv1.weight"])
    for damaged in (content[:-1], content[:50], b"\xff" * 8 + content[8:]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"model\.bin is not an intact safetensors file: "):
            load_backbone(build(), {"file": str(path)})


def tar(content):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        member = tarfile.TarInfo("w.pth")
        member.size = len(content)
        file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(content):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("w.pth", content)
    return buffer.getvalue()


def scripted(_):
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), buffer)
    return buffer.getvalue()


OTHERS = {
    "page": (lambda _: b"\n<!DOCTYPE html><html>Sign in</html>", "a web page.*: download it again"),
    "pointer": (
        lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
        "a Git LFS pointer, not a checkpoint: run `git lfs pull`",
    ),
    "empty": (lambda _: b"", "empty, not a checkpoint"),
    "text": (lambda _: b"Access denied\n", "a text file"),
    "gzip": (gzip.compress, "compressed by gzip, not a checkpoint: unpack it"),
    "bzip2": (bz2.compress, "compressed by bzip2"),
    "xz": (lzma.compress, "compressed by xz"),
    "tar": (tar, "a tar archive"),
    "zip": (zipped, "a zip archive without a checkpoint: unpack it"),
    "pickle": (lambda _: pickle.dumps({"model": {"a": np.ones(3)}}), "a pickle of another program"),
    "TorchScript": (scripted, r"a TorchScript program: save the model's state_dict\(\)"),
}


@pytest.mark.parametrize("form", OTHERS)
def test_what_is_no_checkpoint_is_named(tmp_path, form):
    make, words = OTHERS[form]
    buffer = io.BytesIO()
    torch.save({}, buffer)
    (tmp_path / "w.pth").write_bytes(make(buffer.getvalue()))
    with pytest.raises(UserError, match=rf"^\S+/w\.pth is {words}") as error:
        load_weights(torch.nn.Linear(1, 1), tmp_path / "w.pth")
    assert "\n" not in str(error.value)


def test_a_whole_model_is_refused_by_its_class(tmp_path):
    torch.save(torch.nn.Linear(1, 1), tmp_path / "w.pth")
    with pytest.raises(UserError, match=r"it holds torch\.nn\.modules\.linear\.Linear, which may"):
        load_weights(torch.nn.Linear(1, 1), tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.index_fill(0, torch.tensor([1]), torch.nan), r"not finite \(4 of its 12"),
        (lambda v: v / 0, r"not finite \(12 of its 12 numbers"),
        (lambda v: torch.quantize_per_tensor(v, 0.1, 0, torch.qint8), "quantised"),
        (lambda v: v.to_sparse(), "sparse"),
        (lambda v: v.to("meta"), "on the device meta"),
        (lambda v: v.to(torch.int8), "int8, the model has float32"),
        (lambda v: v.to(torch.complex64), "complex64, the model has float32"),
        (lambda v: v.numpy(), "a NumPy array"),
    ],
)
def test_tensors_that_are_no_weights_are_refused_by_name(tmp_path, change, words):
    linear = torch.nn.Linear(4, 3)
    before = linear.weight.clone()
    torch.save({"weight": change(torch.ones(3, 4)), "bias": torch.ones(3)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match=rf"w\.pth: weight is {words}"):
        load_weights(linear, tmp_path / "w.pth")
    assert torch.equal(linear.weight, before)


def test_a_detector_s_wrapper_and_its_copies_are_taken_off(tmp_path, capsys):
    linear = torch.nn.Sequential(torch.nn.Linear(2, 1))
    plain = {"0.weight": torch.ones(1, 2), "0.bias": torch.ones(1)}
    torch.save(below("module.", plain), tmp_path / "w.pth")
    load_weights(linear, tmp_path / "w.pth")
    assert linear[0].bias == 1
    averaged = {"ema_0_weight": torch.zeros(1, 2), "ema_0_bias": torch.zeros(1)}
    torch.save({"state_dict": plain | averaged}, tmp_path / "w.pth")
    load_weights(linear, tmp_path / "w.pth")
    assert linear[0].bias == 1 and "2 copies for averaging" in capsys.readouterr().err
    outside = {"\x1b[2Jtop": torch.ones(1)}
    torch.save(below("module.", plain) | outside, tmp_path / "w.pth")
    load_weights(linear, tmp_path / "w.pth")
    assert r"left out (\x1b[2Jtop …)" in capsys.readouterr().err


def test_names_of_swin_s_authors_with_other_tensors_are_one_line(tmp_path):
    torch.save({"layers.0.downsample.reduction.weight": torch.ones(3)}, tmp_path / "w.pth")
    with pytest.raises(UserError, match="names of Swin's authors' files, but other tensors"):
        load_backbone(build(), {"file": str(tmp_path / "w.pth")})
