"""The files by which a launcher knows whether a task is done, begun, or another configuration's."""

import json
import pickle

import pytest
from run_folders import bare_config

from gol.cluster.tasks import Detection, Training
from gol.errors import UserError
from gol.files import write_json

#: The summary of a run that 0.2.0 trained, and its job's record.
SUMMARY = {
    "fingerprint": "888cea6e9a837e400d8512043e1c1b28e1b895483bfbdd46c70014a5328d323d",
    "iterations": 16,
    "seconds": 16.511369647000265,
    "images_per_second": 7.2677193089067105,
    "parameters": 1240749,
    "device": "cpu",
    "ranks": 1,
    "started": 1795617600.1130495,
    "finished": 1795617616.6248503,
    "versions": {"gol": "0.2.0", "torch": "2.14.1+cu130", "mmdet": "2.28.2", "mmcv": "1.7.2"},
}
RECORD = {
    "cluster": "local",
    "name": "gol.runs.begun.dfad3181",
    "mark": SUMMARY["fingerprint"],
    "submitted": 1795617505.04601,
    "id": "15620",
    "started": 1795617504.89,
    "host": "vm",
}
OURS = SUMMARY["fingerprint"]


@pytest.fixture
def run(tmp_path):
    write_json(tmp_path / "run/config.json", bare_config(tmp_path / "train.json"))
    return tmp_path / "run"


def begin(run):
    (run / "checkpoints").mkdir()
    (run / "checkpoints/iteration_00000005.pth").touch()


def test_what_0_2_0_has_finished_is_finished(run):
    task = Training(run)
    (run / "train.json").write_text(json.dumps(SUMMARY, indent=1) + "\n")
    assert task.result(OURS) is None  # no weights
    (run / "model.pth").touch()
    assert task.result(OURS).model_dump() == {
        **SUMMARY,
        "precision": None,
        "raw_annotations": {},
        "source": {},
        "validation": None,
    }
    assert task.result("other") is None
    before = (run / "train.json").read_bytes()
    task.run.write_summary(task.result(OURS))
    assert (run / "train.json").read_bytes() == before


def test_what_0_2_0_has_detected_is_detected(run):
    task = Detection(run, run / "detections/gumbel.json")
    write_json(task.record, RECORD)
    assert task.result(OURS) is None  # no output
    task.out.write_text("[]")
    assert task.result(OURS) == task.out and task.result("other") is None
    cost = task.run.cost_of(task.out)
    cost.write_text("[]")
    task.prepare(OURS, OURS, restart=False)  # a job that failed is sent again: its start counts
    assert cost.exists()
    task.prepare("other", OURS, restart=False)
    assert not task.out.exists() and task.record.exists() and not cost.exists()


def test_logits_that_were_removed_are_kept_again(run):
    task = Detection(run, run / "detections/gumbel.json", keep=True)
    write_json(task.record, RECORD)
    task.out.write_text("[]")
    assert task.result(OURS) is None
    write_json(task.run.kept("gumbel", "val") / "index.json", {})
    assert task.result(OURS) == task.out


def test_a_job_that_0_6_0_has_submitted_detects(run, monkeypatch):
    task, found = Detection(run, run / "detections/gumbel.json"), []
    for name in ("rule", "per_class", "keep"):
        del task.__dict__[name]  # what its pickle lacks
    monkeypatch.setattr("gol.engine.detect.detect", lambda *_, **options: found.append(options))
    pickle.loads(pickle.dumps(task)).do()
    assert found == [{"device": None, "last": False, "per_class": None, "keep": False}]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"per_class": 10, "keep": True}, "not with --per-class"),
        ({"scoring": "gumbel+norcal", "keep": True}, "--scoring gumbel"),
        ({"scoring": "gumble"}, "unknown scoring 'gumble'"),
    ],
)
def test_options_that_do_not_go_together_leave_good_detections(run, options, reason):
    task = Detection(run, run / "detections/gumbel.json", **options)
    task.out.parent.mkdir()
    task.out.write_text("[]")
    with pytest.raises(UserError, match=reason):
        task.prepare("other", OURS, restart=False)
    assert task.out.exists()


def test_other_weights_are_another_detection(run):
    (run.parent / "train.json").write_text("[]")
    (run / "model.pth").touch()
    write_json(run / "train.json", SUMMARY)
    ours, last = (Detection(run, run / "detections/gumbel.json", last=last) for last in (0, 1))
    before = ours.fingerprint()
    assert last.fingerprint() == before
    (run / "best.pth").touch()
    assert ours.fingerprint() != before and last.fingerprint() == before


def test_another_calibration_by_the_config_is_another_detection(run):
    (run.parent / "train.json").write_text("[]")
    (run / "model.pth").touch()
    found = set()
    for scoring in ("softmax+norcal", "softmax+fracal", "softmax"):
        config = bare_config(run.parent / "train.json")
        method = scoring.partition("+")[2]
        config["gol"]["axes"] |= {"calibration": method} if method else {}
        write_json(run / "config.json", {**config, "gol": {**config["gol"], "scorings": [scoring]}})
        found.add(Detection(run, run / "detections/out.json").fingerprint())
    assert len(found) == 3


@pytest.mark.parametrize("before", [None, OURS])
def test_a_training_that_is_begun_goes_on(run, before):
    begin(run)
    Training(run).prepare(OURS, before, restart=True)
    assert Training(run).progress() == "iteration_00000005.pth"


@pytest.mark.parametrize("finished", [False, True])
def test_another_configuration_s_files_are_refused_or_removed(run, finished, capsys):
    task = Training(run)
    if finished:
        write_json(run / "train.json", SUMMARY)
    else:
        begin(run)
    write_json(task.record, RECORD)
    for name in ("best.pth", "validation.jsonl"):
        (run / name).touch()
    with pytest.raises(UserError, match=r"trained with another configuration.*--changed restart"):
        task.prepare("other", OURS, restart=False)
    assert task.run.traces()
    task.prepare("other", OURS, restart=True)
    assert "starts over with another configuration" in capsys.readouterr().err
    assert {path.name for path in run.iterdir()} == {"config.json"}


def test_another_configuration_that_left_nothing_is_no_hindrance(run):
    Training(run).prepare("other", OURS, restart=False)
