"""The axis precision: channels-last numbers, and `auto`, which a training settles once."""

import json
import shutil

import pytest
import torch
from rank_processes import assert_same_training, prepare

import gol
from gol.config.own import own_part
from gol.config.resolve import load_config
from gol.engine import precision
from gol.engine.checkpoints import checkpoint_path
from gol.engine.detect import detect
from gol.engine.distributed import Ranks
from gol.engine.precision import find_precision
from gol.engine.predict import load_detector
from gol.engine.train import train
from gol.engine.trainer import Trainer
from gol.errors import UserError
from gol.models.state import load_checkpoint

CPU = torch.device("cpu")
FAST = "bfloat16_channels_last"


def first_step(data, name):
    """What the first step logs, and its gradients."""
    config = gol.load_experiment("demo/gumbel", {"precision": name}, data)
    trainer = Trainer(config, Ranks(0, 1, CPU))
    values = trainer.step(0)
    gradients = {name: p.grad for name, p in trainer.detector.named_parameters()}
    return trainer, values, gradients


def test_channels_last_computes_the_contiguous_numbers(demo_data):
    _, wanted, gradients = first_step(demo_data, "float32")
    trainer, values, found = first_step(demo_data, "float32_channels_last")
    weights = trainer.detector.backbone.layer1[0].conv1.weight
    assert weights.is_contiguous(memory_format=torch.channels_last) and not weights.is_contiguous()
    assert values == pytest.approx(wanted, rel=1e-5, abs=1e-6)
    for name, gradient in gradients.items():
        scale = float(gradient.abs().max())
        torch.testing.assert_close(found[name], gradient, rtol=0, atol=1e-3 * scale + 1e-8)


def test_bfloat16_channels_last_is_near_float32(demo_data):
    _, wanted, gradients = first_step(demo_data, "float32")
    _, values, found = first_step(demo_data, FAST)
    assert 0 < abs(values["loss"] - wanted["loss"]) < 0.02 * wanted["loss"]
    assert values["grad_norm"] == pytest.approx(wanted["grad_norm"], rel=0.1)
    pairs = [(found[name].flatten(), gradient.flatten()) for name, gradient in gradients.items()]
    alike = torch.cosine_similarity(*map(torch.cat, zip(*pairs, strict=True)), dim=0)
    assert alike > 0.95


@pytest.fixture
def on(monkeypatch):
    """Makes this CPU one that is fast at bfloat16, or one that is not."""
    return lambda fast: monkeypatch.setattr(precision, "is_fast", lambda device: fast)


def test_auto_stays_what_it_was_where_the_training_began(tmp_path, tiny_data, on, capsys):
    settings = {"precision": "auto", "data.samples_per_gpu": 8, "runner.max_epochs": 1}
    settings["gol.checkpoint_interval"] = 2
    whole, resumed = (prepare(tmp_path / name, tiny_data, **settings) for name in ("one", "two"))
    on(True)
    summary = train(whole, "cpu")
    assert summary.precision == json.loads((whole / "train.json").read_text())["precision"] == FAST
    assert f"precision auto: {FAST} on cpu\n" in capsys.readouterr().err

    on(False)
    (resumed / "checkpoints").mkdir()
    shutil.copy(checkpoint_path(whole / "checkpoints", 2), resumed / "checkpoints")
    train(resumed, "cpu")
    text = f"precision auto: {FAST} on cpu, as the training began (a new one would take float32"
    assert text in capsys.readouterr().err
    assert_same_training(resumed, whole)

    detect(whole, tmp_path / "slow.json", device="cpu")
    assert load_detector(whole, "cpu")._precision.name == FAST
    on(True)
    detect(whole, tmp_path / "fast.json", device="cpu")
    assert (tmp_path / "slow.json").read_bytes() == (tmp_path / "fast.json").read_bytes()


def test_auto_is_float32_elsewhere_and_only_it_is_recorded(tiny_data, on):
    on(False)
    own = own_part(gol.load_experiment("demo/gumbel", {"precision": "auto"}, tiny_data))
    assert find_precision(own, CPU).record == {"precision": "float32"}
    assert find_precision(own, CPU, {"precision": FAST}).name == FAST
    for name in ("float16", ["float32"]):
        with pytest.raises(UserError, match=r"precision is .*; allowed: bfloat16_channels_last"):
            find_precision(own, CPU, {"precision": name})
    fixed = own_part(gol.load_experiment("demo/gumbel", {"precision": FAST}, tiny_data))
    assert find_precision(fixed, CPU, {"precision": "float32"}).name == FAST
    assert not find_precision(fixed, CPU).record


def test_a_run_of_a_fixed_precision_is_what_it_always_was(alone):
    """Older runs are found again by the config; their summaries and weights stay alike."""
    own = load_config(alone)["gol"]
    assert own["precision"] == "float32" and "memory_format" not in own
    assert "precision" not in json.loads((alone / "train.json").read_text())
    assert "precision" not in load_checkpoint(alone / "model.pth")["meta"]


@pytest.mark.parametrize("version, fast", [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_bfloat16_is_fast_on_cuda_from_ampere_on(version, fast, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: version)
    assert precision.is_fast(torch.device("cuda", 0)) is fast


def test_bfloat16_is_fast_on_a_cpu_with_amx():
    if not hasattr(torch.cpu, "get_capabilities"):
        pytest.skip("this torch does not say what the CPU can do")
    assert precision.is_fast(CPU) is bool(torch.cpu.get_capabilities().get("amx_bf16"))
