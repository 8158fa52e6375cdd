"""Detections: complete, independent of the batch, scored as asked."""

import json

import numpy as np
import pytest
import torch
from pycocotools import mask as rle

import gol
from gol.config.resolve import fingerprint, save_config
from gol.costs import detection_cost, read_attempts
from gol.engine.checkpoints import save_checkpoint
from gol.engine.detect import detect
from gol.engine.per_class import find_cutoffs
from gol.engine.shares import batch_size
from gol.errors import UserError
from gol.models import set_scoring
from gol.run_folder import RunFolder


def prepare(run, data, experiment="demo/sigmoid"):
    """A run with random weights."""
    config = gol.load_experiment(experiment, {"model.test_cfg.rcnn.max_per_img": 20}, data)
    save_config(config, run)
    meta = {"fingerprint": fingerprint(config)}
    state = gol.build_detector(config).state_dict()
    generator = torch.Generator().manual_seed(0)
    weight = state["roi_head.bbox_head.fc_cls.weight"]
    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    save_checkpoint(run / "model.pth", state_dict=state, meta=meta)
    return run


@pytest.mark.slow
def test_detections_do_not_depend_on_the_batch(tmp_path, demo_data, monkeypatch):
    run, found = prepare(tmp_path, demo_data), {}
    for size in (1, 7):
        monkeypatch.setattr("gol.engine.shares._BATCH", size)
        detect(run, tmp_path / "d.json", device="cpu")
        found[size] = json.loads((tmp_path / "d.json").read_text())
    assert len(found[1]) > 24
    keys = ("image_id", "category_id")
    for one, other in zip(found[1], found[7], strict=True):
        assert [one[key] for key in keys] == [other[key] for key in keys]
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)
        np.testing.assert_allclose(one["bbox"], other["bbox"], atol=0.02)


@pytest.mark.parametrize(
    "axes, size", [({}, 16), ({"backbone": "r50"}, 12), ({"detector": "faster_rcnn"}, 16)]
)
def test_batches_are_as_large_as_their_masks_allow(axes, size, demo_data):
    """Each of 300 detections has 40 masks, and 512 features of their size before."""
    assert batch_size(gol.load_experiment("demo/sigmoid", axes, demo_data).model) == size


def test_what_a_detection_took_stands_beside_it(tmp_path, tiny_data, monkeypatch):
    run = RunFolder(prepare(tmp_path / "run", tiny_data))
    detect(run.path, run.detections("softmax"), device="cpu")
    monkeypatch.setattr("gol.engine.shares.entries_of", _damaged)
    with pytest.raises(UserError):
        detect(run.path, run.detections("softmax"), device="cpu")
    done, failed = read_attempts(run.cost_of(run.detections("softmax")))
    assert 24 / done.seconds < done.images_per_second and done.memory_gb > 0.1
    assert failed.seconds > 0 and failed.device == done.device == "cpu"
    cost = detection_cost(run, "softmax")
    assert cost.hours["CPU"] == pytest.approx((done.seconds + failed.seconds) / 3600)


def test_what_a_pass_over_the_scores_takes_is_written_meanwhile(tmp_path, tiny_data, monkeypatch):
    monkeypatch.setattr("gol.engine.bill._EVERY", 0)
    run, noted = RunFolder(prepare(tmp_path / "run", tiny_data)), []
    out = run.detections("softmax", per_class=True)

    def find(*arguments):
        found = find_cutoffs(*arguments)
        noted.extend(read_attempts(run.cost_of(out)))
        return found

    monkeypatch.setattr("gol.engine.detect.find_cutoffs", find)
    detect(run.path, out, device="cpu", per_class=1)
    assert len(noted) == 1 and noted[0].seconds > 0


def _damaged(*_):
    raise UserError("image 3 is damaged")


def test_entries_are_what_the_evaluation_expects(tmp_path, demo_data):
    run = prepare(tmp_path, demo_data)
    count = detect(run, tmp_path / "d.json", device="cpu")
    entries = json.loads((tmp_path / "d.json").read_text())
    annotations = json.loads((demo_data / "val.json").read_text())
    assert len(entries) == count and not [*tmp_path.rglob("*.cost.json")]  # no table reads it
    images = {image["id"]: image for image in annotations["images"]}
    classes = {category["id"] for category in annotations["categories"]}
    for entry in entries:
        image = images[entry["image_id"]]
        assert entry["category_id"] in classes and 1e-4 < entry["score"] <= 1
        assert entry["segmentation"]["size"] == [image["height"], image["width"]]
        x, y, width, height = entry["bbox"]
        left, top, across, down = rle.toBbox(entry["segmentation"])
        if across and down:  # a mask never leaves its box by more than the pixel at its edge
            assert left >= x - 2 and top >= y - 2
            assert left + across <= x + width + 2 and top + down <= y + height + 2


@pytest.mark.parametrize("scoring", ["softmax", "sigmoid"])
def test_scoring_turns_logits_into_scores(demo_data, scoring):
    detector = gol.build_detector(gol.load_experiment("demo/sigmoid", None, demo_data))
    set_scoring(detector, scoring)
    logits = torch.randn(5, 41)
    boxes = torch.tensor([[0, 10.0, 10, 40, 40]]).repeat(5, 1)
    _, scores = detector.roi_head.bbox_head.get_bboxes(
        boxes, logits, torch.zeros(5, 4), (96, 96, 3), np.ones(4, dtype=np.float32)
    )
    expected = logits.softmax(-1) if scoring == "softmax" else logits.sigmoid()
    torch.testing.assert_close(scores, expected)


def test_a_file_that_cannot_be_read_is_no_fault_of_the_output(tmp_path, demo_data, monkeypatch):
    run = prepare(tmp_path / "run", demo_data)

    def build(*_):
        raise OSError(24, "Too many open files", "/some/library")

    monkeypatch.setattr("gol.engine.detect.build_scorer", build)
    with pytest.raises(UserError, match=r"^cannot detect: /some/library: Too many open files$"):
        detect(run, tmp_path / "d.json", device="cpu")


def test_scorings_of_another_experiment_are_refused(tmp_path, demo_data):
    run = prepare(tmp_path, demo_data, "demo/gumbel")
    with pytest.raises(UserError, match=r"unknown scoring 'sigmoid' .*allowed: gumbel"):
        detect(run, tmp_path / "d.json", "sigmoid", device="cpu")


def test_weights_of_another_configuration_are_refused(tmp_path, demo_data):
    run = prepare(tmp_path, demo_data)
    save_config(gol.load_experiment("demo/softmax", None, demo_data), run)
    with pytest.raises(UserError, match="trained with another configuration"):
        detect(run, tmp_path / "d.json", device="cpu")
    assert not (tmp_path / "d.json").exists()
