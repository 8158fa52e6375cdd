"""Validation during training: it changes nothing, loses nothing, and keeps the best."""

import json
import os
import shutil
import signal

import pytest
import torch
from rank_processes import assert_same_training, finish, losses, prepare, start_ranks

import gol
from gol.costs import read_attempts
from gol.engine import validation
from gol.engine.detect import detect
from gol.engine.runlog import RunLog
from gol.engine.shares import ImageShare
from gol.engine.train import Interrupted, train
from gol.engine.trainer import Trainer
from gol.errors import UserError
from gol.evaluation.lvis import evaluate
from gol.models.state import load_checkpoint
from gol.run_folder import RunFolder

#: Six iterations of two micro-batches on the tiny data, and little to detect.
SHORT = {"data.samples_per_gpu": 4, "model.test_cfg.rcnn.max_per_img": 10}
EVERY = {**SHORT, "gol.validate_every": 2}


@pytest.fixture(scope="module")
def validated(made_once, tiny_data):
    """A run that validated after 2, 4 and 6 iterations. To be read only."""
    return made_once("validated", lambda run: train(prepare(run, tiny_data, **EVERY), "cpu"))


def lines(run):
    """The validations of a run, without their times."""
    read = map(json.loads, (run / "validation.jsonl").read_text().splitlines())
    timed = ("time", "seconds", "crc32")
    return [{key: value for key, value in line.items() if key not in timed} for line in read]


def assert_same_validation(run, other):
    """Weights, scores, what is said of the best, and the best weights, all bit for bit."""
    assert_same_training(run, other)
    assert losses(run) == losses(other) and lines(run) == lines(other)
    best, expected = (load_checkpoint(each / "best.pth") for each in (run, other))
    assert best["meta"] == expected["meta"]
    assert all(torch.equal(best["state_dict"][k], v) for k, v in expected["state_dict"].items())
    found, wanted = (RunFolder(each).read_summary().validation for each in (run, other))
    assert found.model_copy(update={"seconds": 0}) == wanted.model_copy(update={"seconds": 0})


def test_weights_and_metrics_are_those_of_a_training_without(validated, tmp_path, tiny_data):
    run = prepare(tmp_path, tiny_data, **SHORT)
    assert (
        not {"validate_every", "patience"}
        & json.loads((run / "config.json").read_text())["gol"].keys()
    )
    summary = train(run, "cpu")
    assert_same_training(validated, run)
    assert losses(validated) == losses(run)
    assert summary.validation is None and "validation" not in (run / "train.json").read_text()
    assert not (run / "best.pth").exists() and not (run / "validation.jsonl").exists()


def test_what_a_validation_takes_is_written_meanwhile(tmp_path, tiny_data, monkeypatch):
    run = prepare(tmp_path, tiny_data, **{**SHORT, "runner.max_epochs": 1, "gol.validate_every": 3})
    monkeypatch.setattr("gol.engine.bill._EVERY", 0)
    plain, seconds = validation.Validation._detect, []

    def taken():
        return read_attempts(RunFolder(run).cost)[-1].seconds

    def detect(*arguments):
        seconds.append(taken())
        plain(*arguments)
        seconds.append(taken())

    monkeypatch.setattr(validation.Validation, "_detect", detect)
    train(run, "cpu")
    assert len(seconds) == 2 and seconds[0] < seconds[1]
    assert taken() >= RunFolder(run).read_summary().seconds  # else it would count as an older run


def test_what_is_written_is_what_detect_and_evaluate_find(validated, tiny_data, tmp_path, capsys):
    assert [line["iteration"] for line in lines(validated)] == [2, 4, 6]
    found = RunFolder(validated).read_summary().validation
    best = load_checkpoint(validated / "best.pth")["meta"]
    assert (best["iter"], best["segm_AP"]) == (found.best_iteration, found.best_score)
    assert best["fingerprint"] == RunFolder(validated).read_summary().fingerprint
    detect(validated, tmp_path / "d.json", device="cpu")
    assert "weights best.pth, which validation chose" in capsys.readouterr().err
    result = evaluate(tiny_data / "val.json", tmp_path / "d.json")
    line = next(line for line in lines(validated) if line["iteration"] == best["iter"])
    assert line == {
        "iteration": best["iter"],
        **{f"{k}_{n}": result[k][n] for k in ("segm", "bbox") for n in validation.METRICS},
    }
    assert not (validated / ".validation").exists()


def test_last_takes_the_final_weights(validated, tmp_path, capsys):
    run = shutil.copytree(validated, tmp_path / "run")
    (run / "model.pth").unlink()
    with pytest.raises(UserError, match=r"cannot read .*model\.pth"):
        detect(run, tmp_path / "d.json", device="cpu", last=True)
    with pytest.raises(UserError, match="--checkpoint and --last both name weights"):
        detect(run, tmp_path / "d.json", checkpoint=run / "best.pth", device="cpu", last=True)
    assert RunFolder(run).chosen == run / "best.pth"
    (run / "best.pth").unlink()
    assert RunFolder(run).chosen == run / "model.pth"


class Killed(BaseException):
    """Ends the process, as far as a test can."""


def once(monkeypatch, owner, name, deed, number):
    """Does a deed at the start of the ``number``-th call of a function."""
    function, calls = getattr(owner, name), []

    def wrapped(*args, **kwargs):
        calls.append(name)
        if len(calls) == number:
            deed()
        return function(*args, **kwargs)

    monkeypatch.setattr(owner, name, wrapped)


def kill():
    raise Killed


def ask():
    os.kill(os.getpid(), signal.SIGUSR2)


#: What ends the training, and the validations that are done then.
ENDS = [
    (ImageShare, "_results", ask, 1, []),  # within the first detection
    (ImageShare, "_results", kill, 2, []),
    (gol.engine.shares, "entries_of", kill, 3, []),  # in the thread that writes
    (validation, "append", kill, 1, []),  # between the best weights and the line
    (Trainer, "step", kill, 2, [2]),  # between two checkpoints
    (gol.engine.train, "save_checkpoint", kill, 1, [2, 4, 6]),  # all is done but the end
]


@pytest.mark.slow
def test_ended_anywhere_it_goes_on_as_if_nothing_had_happened(
    validated, tmp_path, tiny_data, monkeypatch
):
    run = prepare(tmp_path, tiny_data, **EVERY)
    for owner, name, deed, number, scored in ENDS:
        with monkeypatch.context() as patch, pytest.raises((Killed, Interrupted)):
            once(patch, owner, name, deed, number)
            train(run, "cpu")
        assert [line["iteration"] for line in lines(run)] == scored
        assert not (run / "train.json").exists()
    train(run, "cpu")
    assert_same_validation(run, validated)


@pytest.fixture
def scored(monkeypatch):
    """Makes validations find the mask APs of a list, by iteration, without detecting."""

    def scored(*scores):
        monkeypatch.setattr(validation.Validation, "_detect", lambda *_: None)

        def found(self, done, begin):
            names = [f"{kind}_{name}" for kind in self.kinds for name in validation.METRICS]
            score = {**dict.fromkeys(names, 0.5), "segm_AP": scores[done - 1]}
            return {"time": 0.0, "iteration": done, **score, "seconds": 0.0}

        monkeypatch.setattr(validation.Validation, "_score", found)

    return scored


@pytest.mark.parametrize(
    ("scores", "best", "end"),
    [
        ([0.1, 0.3, 0.2, 0.3, 0.9, 0.9], 2, 4),  # equal is not better
        pytest.param([0.1, 0.3, 0.2, 0.4, 0.3, 0.5], 6, 6, marks=pytest.mark.slow),
        # of weights without use the last
        pytest.param([0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 3, 3, marks=pytest.mark.slow),
        ([None, 0.2, 0.1, 0.1, 0.1, 0.1], 2, 4),
    ],
)
def test_patience_ends_the_training_and_the_best_is_kept(
    scored, tmp_path, tiny_data, capsys, scores, best, end
):
    scored(*scores)
    run = prepare(tmp_path, tiny_data, **SHORT, **{"gol.validate_every": 1, "gol.patience": 2})
    summary = train(run, "cpu")
    assert (summary.iterations, summary.validation.best_iteration) == (end, best)
    assert summary.validation.stopped_early == (end < 6)
    assert load_checkpoint(run / "best.pth")["meta"]["iter"] == best
    assert losses(run)[-1]["iteration"] == end
    said = capsys.readouterr().err
    assert "validation every 1 of 6 iterations; the training ends after 2 without a better" in said
    assert f"validation at iteration {end}/6  mask AP " in said


def test_a_damaged_best_is_set_aside(scored, validated, tmp_path, tiny_data, capsys):
    scored(0.9, 0.8, 0.7, 0.6, 0.5, 0.4)
    run = shutil.copytree(validated, tmp_path / "run")
    for name in ("train.json", "model.pth", "checkpoints/iteration_00000006.pth"):
        (run / name).unlink()
    (run / "best.pth").write_bytes((run / "best.pth").read_bytes()[:-99])
    summary = train(run, "cpu")
    assert "best.pth is damaged" in capsys.readouterr().err
    assert (run / "best.pth.damaged").exists() and summary.validation.best_iteration == 6


def test_the_best_of_another_configuration_is_refused(validated, tmp_path, tiny_data):
    run = shutil.copytree(validated, tmp_path / "run")
    for name in ("train.json", "checkpoints/iteration_00000006.pth"):
        (run / name).unlink()
    content = load_checkpoint(run / "best.pth")
    content["meta"]["fingerprint"] = "0"
    gol.engine.train.save_checkpoint(run / "best.pth", **content)
    with pytest.raises(UserError, match="trained with another configuration"):
        train(run, "cpu")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot read .*other.json: No such file"),
        ({"annotations": []}, "other.json has no annotation: gol.validate_every needs some"),
    ],
)
def test_what_cannot_be_scored_is_refused_before_the_first_iteration(
    tmp_path, tiny_data, content, words
):
    store = shutil.copy(tiny_data / "val.store", tmp_path / "other.store")
    if content:
        truth = json.loads((tiny_data / "val.json").read_text())
        (tmp_path / "other.json").write_text(json.dumps({**truth, **content}))
    run = prepare(tmp_path / "run", tiny_data, **EVERY, **{"data.test.ann_file": str(store)})
    with pytest.raises(UserError, match=words):
        train(run, "cpu")
    assert not (run / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"gol.patience": 3}, "key 'gol' has patience, which counts validations, but no validate"),
        ({"gol.validate_every": 0}, "key 'gol.validate_every' must be at least 1, not 0"),
        ({"gol.validate_every": 1.5}, "key 'gol.validate_every' must be a whole number, not 1.5"),
        ({"gol.validate_every": "no"}, "key 'gol.validate_every' must be a whole number"),
        ({"gol": {"validate_every": 9, "patience": -1}}, "key 'gol.patience' must be at least 1"),
        ({"gol.validate": 9}, "unknown key 'validate' in gol; did you mean 'validate_every'"),
    ],
)
def test_wrong_settings_are_one_line(tiny_data, changes, words):
    with pytest.raises(UserError, match=words):
        gol.load_experiment("demo/gol", changes, tiny_data)


def test_the_throughput_leaves_validation_out(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("gol.engine.runlog.time.monotonic", lambda: now[0])
    log = RunLog(tmp_path / "metrics.jsonl", 0, 30, 10, "run")
    now[0] = 10.0
    log.add(10, 100, {"loss": 1.0, "lr": 0.1})
    now[0] += 90.0
    log.pause(90.0)
    now[0] += 10.0
    log.add(20, 100, {"loss": 1.0, "lr": 0.1})
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["images_per_second"] == 10.0
    assert last["eta_seconds"] == 55.0  # with as much of it to come


STARTS = """
import os, signal, sys, time
from gol.cli import main
from gol.engine.shares import ImageShare
from gol.errors import UserError

def ask():
    os.kill(os.getpid(), signal.SIGUSR2)

def fail():
    raise UserError("no luck")

def spoilt(*args):
    if os.environ["RANK"] == "1":
        deed()
    return results(*args)

results = ImageShare._results
ImageShare._results = spoilt
for deed in (ask, fail, lambda: None):
    begin = time.monotonic()
    print(main(["train", sys.argv[1], "--device", "cpu"]), time.monotonic() - begin < 20)
"""


@pytest.mark.slow
def test_two_ranks_stop_fail_and_end_together(validated, tmp_path, tiny_data):
    run = prepare(tmp_path, tiny_data, **EVERY)
    results = finish(start_ranks(2, "-c", STARTS, run), 100)
    said = "".join(errors for _, _, errors in results)
    for _, text, _ in results:
        ends = [line for line in text.splitlines() if line.endswith(("True", "False"))]
        assert ends == ["75 True", "2 True", "0 True"], said
    assert "was asked to stop" in said and said.count("error: no luck") == 1
    assert "Traceback" not in said
    assert_same_validation(run, validated)


def test_faster_rcnn_is_judged_by_its_boxes(tmp_path, tiny_data):
    wanted = {**SHORT, "detector": "faster_rcnn", "gol.validate_every": 9, "runner.max_epochs": 1}
    run = prepare(tmp_path, tiny_data, "demo/softmax", **wanted)
    assert train(run, "cpu").validation.metric == "bbox_AP"
    assert lines(run)[0].keys() == {"iteration", *(f"bbox_{n}" for n in validation.METRICS)}
