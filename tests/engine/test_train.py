"""Training: killed at any moment and run again, it ends with the same weights."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import gol
from gol.config.axes import axis_values
from gol.config.resolve import save_config
from gol.data.store import AnnotationStore
from gol.engine.train import train
from gol.errors import UserError
from gol.models.state import load_checkpoint

FIELDS = ("iteration", "lr", "loss", "grad_norm")


def prepare(run, data, experiment="demo/gol", **overrides):
    """A run of 24 iterations (3 epochs) with a checkpoint every 5."""
    overrides = {"runner.max_epochs": 3, "gol.checkpoint_interval": 5, **overrides}
    overrides.setdefault("sampler", "random")
    save_config(gol.load_experiment(experiment, overrides, data), run)
    return run


def weights(run):
    return load_checkpoint(run / "model.pth")["state_dict"]


def lines(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory, demo_data):
    run = prepare(tmp_path_factory.mktemp("whole"), demo_data)
    train(run, "cpu")
    return run


def test_what_a_training_writes(uninterrupted):
    summary = json.loads((uninterrupted / "train.json").read_text())
    assert summary["iterations"] == 24 and summary["device"] == "cpu"
    assert summary["seconds"] > 0 and summary["images_per_second"] > 0
    assert [line["iteration"] for line in lines(uninterrupted)] == [10, 20, 24]
    assert all(
        {"loss_cls", "loss_bbox", "loss_mask"} <= line.keys() for line in lines(uninterrupted)
    )
    kept = sorted(path.name for path in (uninterrupted / "checkpoints").iterdir())
    assert kept == ["iteration_00000020.pth", "iteration_00000024.pth"]


def test_a_finished_training_is_not_repeated(uninterrupted):
    before = (uninterrupted / "model.pth").stat().st_mtime_ns
    train(uninterrupted, "cpu")
    assert (uninterrupted / "model.pth").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.parametrize("kills", [[3], [12], [23], [7, 16]])
def test_killed_training_ends_with_identical_weights(uninterrupted, tmp_path, demo_data, kills):
    run = prepare(tmp_path / "run", demo_data)
    code = (
        "import os, signal\n"
        "from gol.engine.train import train; from gol.engine.trainer import Trainer\n"
        "step = Trainer.step\n"
        "def killing(self, iteration):\n"
        f"    if iteration == {{}}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, iteration)\n"
        "Trainer.step = killing\n"
        f"train({str(run)!r}, 'cpu')\n"
    )
    for iteration in kills:
        killed = subprocess.run([sys.executable, "-c", code.format(iteration)], capture_output=True)
        assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
        assert not (run / "train.json").exists()
    train(run, "cpu")
    whole, resumed = weights(uninterrupted), weights(run)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(whole[key], resumed[key]) for key in whole)
    assert [[line[key] for key in FIELDS] for line in lines(run)] == [
        [line[key] for key in FIELDS] for line in lines(uninterrupted)
    ]


def test_killed_at_a_random_moment(uninterrupted, tmp_path, demo_data):
    run = prepare(tmp_path / "run", demo_data)
    process = subprocess.Popen([sys.executable, "-m", "gol", "train", str(run), "--device", "cpu"])
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    delay = int.from_bytes(os.urandom(2)) / 2**16 * 2
    time.sleep(delay)
    process.kill()
    process.wait()
    train(run, "cpu")
    whole, resumed = weights(uninterrupted), weights(run)
    assert all(torch.equal(whole[key], resumed[key]) for key in whole), f"killed after {delay} s"


def test_two_trainings_of_one_run_are_refused(uninterrupted):
    from filelock import FileLock

    with (
        FileLock(uninterrupted / ".train.lock"),
        pytest.raises(UserError, match="by another process"),
    ):
        train(uninterrupted, "cpu")


def test_another_configurations_run_is_refused(uninterrupted, tmp_path, demo_data):
    import shutil

    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    prepare(run, demo_data, **{"optimizer.lr": 0.01})
    with pytest.raises(UserError, match="training of another configuration"):
        train(run, "cpu")
    (run / "train.json").unlink()
    with pytest.raises(UserError, match="training of another configuration"):
        train(run, "cpu")


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, demo_data):
    run = prepare(tmp_path, demo_data, "demo/softmax", **{"optimizer.lr": 1e30})
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at iteration \d+.*learning rate"):
        train(run, "cpu")
    assert not (run / "model.pth").exists()


@pytest.mark.parametrize("precision", ["bfloat16"])
@pytest.mark.parametrize(
    "experiment", ["demo/gumbel", "demo/gumbel_exact", "demo/softmax", "demo/gol"]
)
def test_autocast_follows_float32(tmp_path, demo_data, experiment, precision):
    losses = {}
    for name in ("float32", precision):
        run = prepare(
            tmp_path / name,
            demo_data,
            experiment,
            **{"runner.max_epochs": 1, "gol.precision": name},
        )
        train(run, "cpu")
        losses[name] = lines(run)[-1]["loss"]
    assert losses[precision] == pytest.approx(losses["float32"], rel=0.1)
    assert losses[precision] != losses["float32"]


def test_adamw_trains_and_resumes(tmp_path, demo_data):
    settings = {"schedule": "demo_adamw", "gol.checkpoint_interval": 4, "runner.max_epochs": 1}
    whole = prepare(tmp_path / "whole", demo_data, **settings)
    train(whole, "cpu")
    resumed = prepare(tmp_path / "resumed", demo_data, **settings)
    (resumed / "checkpoints").mkdir()
    newest = "checkpoints/iteration_00000004.pth"
    (resumed / newest).write_bytes((whole / newest).read_bytes())
    train(resumed, "cpu")
    assert all(torch.equal(weights(whole)[key], weights(resumed)[key]) for key in weights(whole))


def test_the_learning_rate_follows_the_batch(tmp_path, demo_data, capsys):
    settings = {"data.samples_per_gpu": 1, "gol.global_batch": 2, "runner.max_epochs": 1}
    run = prepare(tmp_path, demo_data, **settings)
    train(run, "cpu")
    said = capsys.readouterr().err
    assert "learning rate 0.01 = 0.04 x 2/8 images; ranks 1, micro-batches of 1" in said
    assert max(line["lr"] for line in lines(run)) <= 0.01


def test_other_annotations_are_another_training(uninterrupted, tmp_path, demo_data):
    import shutil

    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(demo_data, data)
    prepare(run, data, **{"runner.max_epochs": 1})
    train(run, "cpu")
    content = json.loads((data / "train.json").read_text())
    content["annotations"].pop()
    AnnotationStore.from_annotations(content).save(data / "train.store")
    (run / "train.json").unlink()
    with pytest.raises(UserError, match="or other annotations"):
        train(run, "cpu")


@pytest.mark.parametrize("classifier", axis_values("classifier"))
def test_every_classifier_takes_a_step(tmp_path, demo_data, classifier):
    overrides = {"classifier": classifier, "layer": "normed", "runner.max_epochs": 1}
    overrides |= {"data.samples_per_gpu": 32, "gol.global_batch": 32}
    run = prepare(tmp_path, demo_data, **overrides)
    assert train(run, "cpu").iterations == 2
    assert all(torch.isfinite(tensor).all() for tensor in weights(run).values())


def test_an_unknown_device_is_named(uninterrupted):
    for name in ("cud", "cuda:99"):
        with pytest.raises(UserError, match=f"no device '{name}'; allowed: cpu"):
            train(uninterrupted, name)
