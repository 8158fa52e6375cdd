"""Training: killed at any moment and run again, it ends with the same weights."""

import json
import os
import shutil
import signal
import time

import pytest
import torch
from filelock import FileLock
from processes import Process
from rank_processes import assert_same_training, losses, prepare, weights

from gol.config.axes import axis_values
from gol.config.resolve import fingerprint, load_config
from gol.costs import read_attempts
from gol.data.store import AnnotationStore
from gol.engine.checkpoints import checkpoint_path, save_checkpoint
from gol.engine.train import train
from gol.errors import UserError
from gol.models.state import load_checkpoint
from gol.run_folder import RunFolder

#: Three iterations on the tiny data, each of one micro-batch as on a GPU with enough memory.
SHORT = {"data.samples_per_gpu": 8, "runner.max_epochs": 1}


def test_what_a_training_writes(alone):
    summary = json.loads((alone / "train.json").read_text())
    assert summary["iterations"] == 16 and summary["device"] == "cpu"
    assert summary["seconds"] > 0 and summary["images_per_second"] > 0
    (took,) = read_attempts(RunFolder(alone).cost)
    assert took.seconds > summary["seconds"] and took.devices == 1 and took.memory_gb > 0.1
    assert [line["iteration"] for line in losses(alone)] == [10, 16]
    assert {*summary["raw_annotations"]} == {"train", "val"}
    assert all({"loss_cls", "loss_bbox", "loss_mask"} <= line.keys() for line in losses(alone))
    kept = sorted(path.name for path in (alone / "checkpoints").iterdir())
    assert kept == ["iteration_00000015.pth", "iteration_00000016.pth"]


@pytest.fixture
def finished(alone, tmp_path):
    """A finished run that the test may change."""
    return shutil.copytree(alone, tmp_path / "finished")


def test_a_finished_training_is_not_repeated(finished):
    before = (finished / "model.pth").stat().st_mtime_ns
    took = read_attempts(RunFolder(finished).cost)
    train(finished, "cpu")
    assert (finished / "model.pth").stat().st_mtime_ns == before
    assert read_attempts(RunFolder(finished).cost) == took


@pytest.mark.slow
@pytest.mark.parametrize("kills", [[3], [12], [15], [7, 11]])
def test_killed_training_ends_with_identical_weights(alone, tmp_path, demo_data, kills):
    run = prepare(tmp_path / "run", demo_data)
    code = (
        "import os, signal, sys\n"
        "from gol.engine.train import train; from gol.engine.trainer import Trainer\n"
        "step = Trainer.step\n"
        "def killing(self, iteration):\n"
        "    if iteration == int(sys.argv[2]): os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return step(self, iteration)\n"
        "Trainer.step = killing\n"
        "train(sys.argv[1], 'cpu')\n"
    )
    for iteration in kills:
        ended, _, errors = Process("-c", code, run, iteration).finish()
        assert ended == -signal.SIGKILL, errors
        assert not (run / "train.json").exists()
    train(run, "cpu")
    assert_same_training(run, alone)
    assert losses(run) == losses(alone)
    # Each start that lived to a checkpoint (every 5 iterations) is known until then.
    *killed, _ = read_attempts(RunFolder(run).cost)
    assert len(killed) == sum(iteration > 5 for iteration in kills)


@pytest.mark.slow
def test_killed_at_a_random_moment(alone, tmp_path, demo_data):
    run = prepare(tmp_path / "run", demo_data)
    process = Process("-m", "gol", "train", run, "--device", "cpu")
    while not (run / "metrics.jsonl").exists() and process.poll() is None:
        time.sleep(0.05)
    delay = int.from_bytes(os.urandom(2)) / 2**16 * 2
    time.sleep(delay)
    process.kill()
    process.finish()
    train(run, "cpu")
    print(f"killed after {delay} s")
    assert_same_training(run, alone)


def test_two_trainings_of_one_run_are_refused(finished):
    with (
        FileLock(finished / ".train.lock"),
        pytest.raises(UserError, match="by another process"),
    ):
        train(finished, "cpu")


def test_another_configurations_run_is_refused(finished, demo_data):
    prepare(finished, demo_data, **{"optimizer.lr": 0.01})
    with pytest.raises(UserError, match="trained with another configuration"):
        train(finished, "cpu")
    (finished / "train.json").unlink()
    with pytest.raises(UserError, match="trained with another configuration"):
        train(finished, "cpu")


def test_a_loss_that_is_not_finite_stops_the_training(tmp_path, demo_data):
    run = prepare(tmp_path, demo_data, "demo/softmax", **{"optimizer.lr": 2e9})
    with pytest.raises(UserError, match=r"the loss is (nan|inf) at iteration \d+.*learning rate"):
        train(run, "cpu")
    assert not (run / "model.pth").exists()


@pytest.mark.parametrize("precision", ["bfloat16"])
@pytest.mark.parametrize(
    "experiment",
    [
        "demo/gumbel",
        "demo/gol",
        pytest.param("demo/gumbel_exact", marks=pytest.mark.slow),
        pytest.param("demo/softmax", marks=pytest.mark.slow),
    ],
)
def test_autocast_follows_float32(tmp_path, tiny_data, experiment, precision):
    found = {}
    for name in ("float32", precision):
        settings = {**SHORT, "precision": name}
        run = prepare(tmp_path / name, tiny_data, experiment, **settings)
        train(run, "cpu")
        found[name] = losses(run)[-1]["loss"]
    assert found[precision] == pytest.approx(found["float32"], rel=0.1)
    assert found[precision] != found["float32"]


def test_adamw_and_a_loss_that_counts_train_and_resume(tmp_path, tiny_data):
    settings = {**SHORT, "schedule": "demo_adamw", "classifier": "eqlv2"}
    settings["gol.checkpoint_interval"] = 2
    whole = prepare(tmp_path / "whole", tiny_data, **settings)
    train(whole, "cpu")
    resumed = prepare(tmp_path / "resumed", tiny_data, **settings)
    (resumed / "checkpoints").mkdir()
    newest = "checkpoints/iteration_00000002.pth"
    (resumed / newest).write_bytes((whole / newest).read_bytes())
    train(resumed, "cpu")
    assert_same_training(resumed, whole)


def test_the_learning_rate_follows_the_batch(tmp_path, tiny_data, capsys):
    settings = {"data.samples_per_gpu": 1, "gol.global_batch": 2, "runner.max_epochs": 1}
    run = prepare(tmp_path, tiny_data, **settings)
    train(run, "cpu")
    said = capsys.readouterr().err
    assert "learning rate 0.01 = 0.04 x 2/8 images; ranks 1, micro-batches of 1" in said
    assert max(line["lr"] for line in losses(run)) <= 0.01


def test_other_annotations_are_another_training(tmp_path, demo_data):
    data = shutil.copytree(demo_data, tmp_path / "data")
    run = prepare(tmp_path / "run", data)
    meta = {"iter": 5, "fingerprint": fingerprint(load_config(run)), "seconds": 1, "started": 1}
    path = checkpoint_path(run / "checkpoints", 5)
    save_checkpoint(path, state_dict={}, optimizer={}, scaler={}, meta=meta)
    content = json.loads((data / "train.json").read_text())
    content["annotations"].pop()
    AnnotationStore.from_annotations(content).save(data / "train.store")
    with pytest.raises(UserError, match="or other annotations"):
        train(run, "cpu")


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c.update(optimizer={}), "does not fit the model"),
        (lambda c: c.update(optimizer={"state": {}, "param_groups": []}), "different number of"),
        (lambda c: c.update(state_dict={}), "does not fit the model: missing backbone"),
        (lambda c: c["state_dict"].update(x=torch.zeros(1)), "unexpected x"),
        (lambda c: c.pop("scaler"), "is not a checkpoint of `gol train`: key 'scaler' is missing"),
    ],
)
def test_a_planted_checkpoint_is_named_in_one_line(finished, spoil, words):
    (finished / "train.json").unlink()
    newest = checkpoint_path(finished / "checkpoints", 16)
    content = load_checkpoint(newest)
    spoil(content)
    save_checkpoint(newest, **content)
    with pytest.raises(UserError, match=words) as caught:
        train(finished, "cpu")
    assert "\n" not in str(caught.value) and newest.exists()


def classifiers():
    """The first one of each loss, and the others, which are slow."""
    losses = set()
    for name, value in axis_values("classifier").items():
        loss = value["loss"]["type"]
        yield pytest.param(name, marks=pytest.mark.slow) if loss in losses else name
        losses.add(loss)


@pytest.mark.parametrize("classifier", list(classifiers()))
def test_every_classifier_takes_a_step(tmp_path, tiny_data, classifier):
    overrides = {"classifier": classifier, "layer": "normed", "runner.max_epochs": 1}
    overrides |= {"data.samples_per_gpu": 16, "gol.global_batch": 16}
    run = prepare(tmp_path, tiny_data, **overrides)
    assert train(run, "cpu").iterations == 2
    assert all(torch.isfinite(tensor).all() for tensor in weights(run).values())


def test_an_unknown_device_is_named(alone):
    for name in ("cud", "cuda:99"):
        with pytest.raises(UserError, match=f"no device '{name}'; allowed: cpu"):
            train(alone, name)


def test_images_that_are_all_too_small_are_one_line_and_not_the_config(tmp_path, tiny_data):
    box = {"bbox": [1, 1, 9, 9], "area": 40, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    small = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 96, "height": 31}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, **box}],
        "categories": [{"id": 1, "name": "x"}],
    }
    (tmp_path / "small.json").write_text(json.dumps(small))
    file = {"data.train.ann_file": str(tmp_path / "small.json")}
    run = prepare(tmp_path / "run", tiny_data, "demo/gumbel", **file)
    with pytest.raises(UserError, match=r"small\.json has no image to train on.* 32 px$"):
        train(run, "cpu")
