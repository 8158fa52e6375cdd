"""Kept logits: the same detections again, calibrated ones, and what cannot be calibrated."""

import json
import math
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest
import torch
from filelock import FileLock
from test_detect import prepare

import gol
from gol.cli import main
from gol.config.resolve import fingerprint, save_config
from gol.costs import read_attempts
from gol.engine.calibrate import calibrate
from gol.engine.detect import detect
from gol.engine.keeping import kept_folder
from gol.engine.known import moments
from gol.errors import UserError
from gol.models.keep import Keeper, Kept, Rules
from gol.run_folder import RunFolder


@pytest.fixture(scope="module")
def kept(made_once, tiny_data):
    """A run of the softmax with random weights, and its kept logits. To be copied."""

    def fill(folder):
        prepare(folder, tiny_data, "demo/softmax")
        detect(folder, folder / "detections" / "softmax.json", device="cpu", keep=True)

    return made_once("kept", fill)


@pytest.fixture
def run(kept, tmp_path):
    return shutil.copytree(kept, tmp_path / "run")


def test_none_gives_the_detections_bit_for_bit_and_so_does_keeping(run, tmp_path):
    found = calibrate(run, "none", device="cpu")
    detect(run, tmp_path / "plain.json", device="cpu")
    plain = (tmp_path / "plain.json").read_bytes()
    assert len(json.loads(plain)) == 24 * 20  # the most that an image may have
    assert found.detections.read_bytes() == plain
    assert (run / "detections" / "softmax.json").read_bytes() == plain
    assert found.before["per_class"] == found.after["per_class"] and found.missing == 0


@pytest.mark.parametrize(
    "method",
    ["norcal", pytest.param("fracal", marks=pytest.mark.slow)],
)
def test_kept_candidates_are_those_of_a_calibrated_detection(method, run, tmp_path):
    """At a strength that is among the views none is missing."""
    path = calibrate(run, method, device="cpu").detections
    detect(run, tmp_path / "direct.json", f"softmax+{method}", device="cpu")
    direct = json.loads((tmp_path / "direct.json").read_text())
    rescored = json.loads(path.read_text())
    plain = json.loads((run / "detections" / "softmax.json").read_text())
    key = lambda entry: (entry["image_id"], entry["category_id"], *entry["bbox"])  # noqa: E731
    scores, expected = ({key(e): e["score"] for e in part} for part in (rescored, direct))
    assert {key(entry) for entry in plain} != set(expected)
    shared = sorted(set(scores) & set(expected))
    assert len(shared) == len(expected)
    np.testing.assert_allclose(
        [scores[k] for k in shared], [expected[k] for k in shared], rtol=1e-4
    )
    masks = [{key(e): e["segmentation"] for e in part} for part in (rescored, direct)]
    assert np.mean([masks[0][k] == masks[1][k] for k in shared]) > 0.99
    assert json.loads((run / "calibration" / f"softmax+{method}.json").read_text())["curve"] == []


def test_logn_and_a_fit_measure_on_half_of_the_training_images(run, capsys):
    calibrate(run, "logn", device="cpu")
    index = kept_folder(RunFolder(run), "softmax", "train_half").read_index()
    assert index.images == 12 and index.proposals > 0
    old = [
        RunFolder(run).detections("softmax+logit_adjust", per_class=True),
        *(RunFolder(run).evaluation(f"softmax{more}", "fixed") for more in ("+logit_adjust", "")),
    ]
    for path in old:
        path.parent.mkdir(exist_ok=True)
        path.write_text("[]")
    found = calibrate(run, "logit_adjust", fit=True, device="cpu")
    assert [path.exists() for path in old] == [False, False, True]
    assert "classes have no object in the half" in capsys.readouterr().err
    strengths = [point.strength for point in found.curve]
    assert strengths == sorted(strengths) and strengths[0] == 0 and strengths[-1] == 2
    best = max(found.curve, key=lambda point: (point.AP, -point.strength))
    assert found.strength == best.strength


def test_another_strength_says_what_it_replaces_and_a_fit_where_its_curve_is(run, capsys):
    for gamma, words in (("0.7", False), ("0.5", True)):
        assert main(["calibrate", str(run), "norcal", "--gamma", gamma, "--device", "cpu"]) == 0
        said = capsys.readouterr().out
        assert ("in place of those of gamma 0.7" in said) == words
    assert main(["calibrate", str(run), "norcal", "--fit", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    figure = RunFolder(run).fit_figures("softmax+norcal")[0].with_suffix(".png")
    assert f"gamma fitted on training images; the curve is {figure}" in said and figure.is_file()


def test_the_best_of_each_class_are_found_at_the_strength_that_was_taken(run, capsys):
    """So that AP-fixed stands beside the AP of the same scores."""
    scoring, folder = "softmax+norcal", RunFolder(run)
    best, record = folder.detections(scoring, per_class=True), folder.calibration(scoring)
    by_protocol = folder.evaluation(scoring, "fixed")
    by_box = lambda path: {  # noqa: E731
        (e["image_id"], e["category_id"], *e["bbox"]): e["score"]
        for e in json.loads(path.read_text())
    }

    def found():
        command = ["detect", run, "--scoring", scoring, "--per-class", "40", "--device", "cpu"]
        assert main([*map(str, command)]) == 0
        return by_box(best)

    default = found()
    rescored = by_box(calibrate(run, "norcal", strength=("gamma", 1.5), device="cpu").detections)
    assert not best.exists()
    taken = found()
    assert "softmax+norcal at gamma 1.5, as `gol calibrate` took it" in capsys.readouterr().err
    for scores, same in ((taken, True), (default, False)):
        shared = sorted(set(scores) & set(rescored))
        assert len(shared) > 20
        values = [[each[key] for key in shared] for each in (scores, rescored)]
        assert np.allclose(*values, rtol=1e-4) == same
    written = record.read_text()
    for content in (written, "{"):
        record.write_text(content)
        best.touch()
        by_protocol.write_text("{}")
        detect(run, folder.detections(scoring), scoring, device="cpu")
        assert not any(path.exists() for path in (best, by_protocol, record))
    assert found() == default
    record.write_text(written.replace("1.5", "7.5"))
    command = ["detect", str(run), "--scoring", scoring, "--per-class", "40"]
    assert main(command) == 2
    assert f"{record}: gamma is 7.5; allowed: numbers from 0 to 2" in capsys.readouterr().err


def test_the_bill_of_logn_has_its_detection_on_training_images(run):
    out = RunFolder(run).detections("softmax+logn")
    detect(run, out, "softmax+logn", device="cpu")
    assert len(read_attempts(RunFolder.cost_of(out))) == 2
    detect(run, out, "softmax+logn", device="cpu")  # what is kept costs nothing
    assert len(read_attempts(RunFolder.cost_of(out))) == 3


def test_what_another_process_keeps_is_waited_for_and_used(run, capsys):
    half = run / "kept" / "softmax.train_half"
    begun = Event()

    def keep():
        with FileLock(half.with_name(f".{half.name}.lock")):
            begun.set()
            time.sleep(1)
            shutil.copytree(run / "kept" / "softmax.val", half)

    with ThreadPoolExecutor() as threads:
        other = threads.submit(keep)
        begun.wait()
        calibrate(run, "logn", device="cpu")
        other.result()
    assert f"{half}: waiting for the process that writes it" in capsys.readouterr().err
    assert kept_folder(RunFolder(run), "softmax", "train_half").read_index().images == 24


def test_a_fit_is_forgotten_once_other_detections_are_there_and_not_before(run, monkeypatch):
    folder, scoring = RunFolder(run), "softmax+norcal"
    record, figures = folder.calibration(scoring), folder.fit_figures(scoring)
    record.parent.mkdir()
    for path in (record, *figures):
        path.touch()
    with monkeypatch.context() as patch:
        patch.setattr("gol.engine.detect.write_sharded", _fail)
        with pytest.raises(UserError, match="the disk is full"):
            detect(run, folder.detections(scoring), scoring, device="cpu")
    assert all(path.exists() for path in (record, *figures))
    calibrate(run, "norcal", device="cpu")
    assert record.read_text() and not any(path.exists() for path in figures)
    figures[0].touch()
    detect(run, folder.detections(scoring), scoring, device="cpu")
    assert not record.exists() and not figures[0].exists()


def _fail(*_):
    raise UserError("the disk is full")


def test_mean_and_variance_do_not_depend_on_the_images_between_which_logits_are_shared(rng):
    logits = torch.tensor(rng.normal(-5, 3, (50, 4)))
    keeper = Keeper([], sums=torch.zeros(2, 4, dtype=torch.float64))
    for part in logits.split([0, 1, 30, 19]):
        keeper.measure(part)
    mean, variance = moments(keeper.count, *keeper.sums)
    np.testing.assert_allclose(mean, logits.mean(0))
    np.testing.assert_allclose(variance, logits.var(0))


def test_what_is_missing_is_counted():
    """Three proposals far apart; of the best pairs one was not kept, another overlaps a better."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30], [21, 20, 30, 30]])
    kept = Kept(torch.zeros(3, 3), torch.arange(3), torch.tensor([0, 0, 1]), boxes, 30.0)
    scores = torch.tensor([[0.9, 0.01, 0], [0.8, 0.6, 0.1], [0.05, 0.5, 0.1]])
    rules = Rules(0.07, 0.5, 3)
    chosen = kept.detections(scores, rules)
    assert chosen.tolist() == [0, 1, 2]  # the third is of another class
    assert kept.missing(scores, chosen, rules) == 1  # the second proposal's other class
    high = Rules(0.7, 0.5, 3)
    assert kept.missing(scores, kept.detections(scores, high), high) == 0


@pytest.mark.parametrize("largest", [-math.inf, 5.0])  # of no candidate, and of other boxes
def test_boxes_that_were_no_candidates_before_are_suppressed_class_by_class(largest):
    boxes = torch.tensor([[20.0, 20, 30, 30], [20, 20, 30, 31], [0, 0, 10, 10], [6, 6, 16, 16]])
    kept = Kept(torch.zeros(4, 3), torch.arange(4), torch.tensor([0, 0, 1, 0]), boxes, largest)
    scores = torch.tensor([[0.9, 0.0, 0], [0.8, 0.0, 0], [0.0, 0.7, 0], [0.6, 0.0, 0]])
    rules = Rules(0.5, 0.5, 9)
    chosen = kept.detections(scores, rules)
    assert chosen.tolist() == [0, 2, 3]
    scores[3, 1] = 0.55  # a pair that was not kept, far from the others of its class
    assert kept.missing(scores, chosen, rules) == 1


def test_what_cannot_be_calibrated_is_named(run, tmp_path, tiny_data):
    with pytest.raises(UserError, match=r"unknown calibration 'norcl'; did you mean 'norcal'"):
        calibrate(run, "norcl")
    with pytest.raises(UserError, match="gamma is 3; allowed: numbers from 0 to 2"):
        calibrate(run, "norcal", strength=("gamma", 3))
    with pytest.raises(UserError, match="--fit finds a strength, but LogN has none"):
        calibrate(run, "logn", fit=True)
    with pytest.raises(UserError, match="unknown scoring 'gumbel'"):
        calibrate(run, "norcal", scoring="gumbel")
    file = next((run / "kept" / "softmax.val").glob("*.npz"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match="is missing or damaged: `gol detect --keep-logits` writes"):
        calibrate(run, "norcal", device="cpu")
    assert not (run / "detections" / "softmax+norcal.json").exists()
    (run / "model.pth").write_bytes(b"others")
    with pytest.raises(UserError, match="is of other weights than"):
        calibrate(run, "norcal", device="cpu")
    save_config(gol.load_experiment("demo/softmax", {"optimizer.lr": 1}, tiny_data), run)
    with pytest.raises(UserError, match="of another configuration or other annotations"):
        calibrate(run, "norcal", device="cpu")
    shutil.rmtree(run / "kept")
    with pytest.raises(UserError, match="has no kept logits: `gol detect RUN --keep-logits`"):
        calibrate(run, "norcal", device="cpu")


def test_a_refused_detection_leaves_what_was_kept(run, tmp_path):
    with pytest.raises(UserError, match=r"nope\.pth"):
        detect(run, tmp_path / "d.json", None, tmp_path / "nope.pth", device="cpu", keep=True)
    assert kept_folder(RunFolder(run), "softmax", "val").exists


def test_another_class_list_is_refused(run):
    index = run / "kept" / "softmax.val" / "index.json"
    content = json.loads(index.read_text())
    content["categories"][0] = 77
    index.with_name(".index.json.sha256").unlink()
    index.write_text(json.dumps(content))
    with pytest.raises(UserError, match="another class list"):
        calibrate(run, "norcal", device="cpu")


def test_a_calibrated_experiment_is_the_same_training(tiny_data):
    plain = gol.load_experiment("demo/softmax", None, tiny_data)
    moved = gol.load_experiment("demo/softmax", {"calibration": "norcal"}, tiny_data)
    assert moved.gol.scorings == ["softmax+norcal"] and "calibration" not in plain.gol.axes
    assert fingerprint(plain) == fingerprint(moved)


@pytest.mark.parametrize(
    ("name", "method", "reason", "allowed"),
    [
        ("demo/gumbel", "logn", "logn compares the logits of all classes in one softmax", True),
        ("demo/eqlv2", "logn", "logn compares the logits of all classes in one softmax", False),
        ("demo/eqlv2", "fracal", "fracal multiplies two scores", False),
    ],
)
def test_a_senseless_calibration_is_refused_with_those_that_are_allowed(
    name, method, reason, allowed, tiny_data
):
    given = "none, norcal, logit_adjust" + ", fracal" * allowed
    with pytest.raises(UserError, match=f"{reason}.*; allowed: {given}$"):
        gol.load_experiment(name, {"calibration": method}, tiny_data)
