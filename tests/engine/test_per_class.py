"""The best of each class over all images: exact, whatever the order, the batches and the ranks."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import gol
from gol.config.resolve import fingerprint, save_config
from gol.engine import shares as module
from gol.engine.checkpoints import save_checkpoint
from gol.engine.detect import detect
from gol.engine.distributed import Ranks
from gol.engine.per_class import Best
from gol.errors import UserError
from gol.models.nms import Boxes, best_detections, detections_above

ALONE = Ranks(0, 1, torch.device("cpu"))
FEW = {"model.test_cfg.rpn.max_per_img": 6}  # proposals, so that all detections are soon made
EVERYTHING = {"model.test_cfg.rcnn.max_per_img": 10_000, "model.test_cfg.rcnn.score_thr": 0.0}


@pytest.fixture
def images(rng):
    """Image to the scores of its detections of 4 classes; many are equal, the last is rare."""
    return {
        image: [
            np.sort(rng.integers(0, 6, rng.integers(0, 1 + 9 * (c < 3) + (image == 7))) / 8)[::-1]
            for c in range(4)
        ]
        for image in range(40)
    }


def expected(images, most):
    """By definition: (label, image, place) of the best of each class."""
    rows = [
        (label, -score, image, place)
        for image, scores in images.items()
        for label, values in enumerate(scores)
        for place, score in enumerate(values)
        if score > 0
    ]
    kept = [sorted(row for row in rows if row[0] == label)[:most] for label in range(4)]
    return {(label, image, place) for part in kept for label, _, image, place in part}


def kept(images, cutoffs):
    return {
        (label, image, place)
        for image, scores in images.items()
        for label, values in enumerate(scores)
        for place, score in enumerate(values)
        if cutoffs.keeps(image, label, place, float(score))
    }


@pytest.mark.parametrize("pending", [1, 30, 10**6])
def test_cutoffs_are_exact_whatever_the_order_and_the_ranks(images, rng, pending, monkeypatch):
    monkeypatch.setattr("gol.engine.per_class._PENDING", pending)
    for most in (1, 17, 10_000):
        best = [Best(4, most) for _ in range(3)]
        for image in rng.permutation(40).tolist():
            best[image % 3].add(image, images[image])
        for other in best[1:]:
            other._compare()
        gathered = [other._columns for other in best[1:]]
        ranks = SimpleNamespace(gather=lambda _, g=gathered: g, broadcast=lambda value: value)
        found = kept(images, best[0].cutoffs(ranks))
        assert found == expected(images, most)
        one = Best(4, most)
        for image, scores in images.items():
            one.add(image, scores)
        assert kept(images, one.cutoffs(ALONE)) == found


def test_floors_rise_while_the_images_pass(images, monkeypatch):
    monkeypatch.setattr("gol.engine.per_class._PENDING", 1)
    best, floors = Best(4, 20), []
    for image, scores in images.items():
        best.add(image, scores)
        floors.append(best.floors.copy())
    assert (np.diff(floors, axis=0) >= 0).all() and (floors[-1][:3] > floors[0][:3]).all()
    assert floors[-1][3] == floors[0][3]  # it never fills
    assert max(len(column) for column in best._columns) <= 4 * 20


def test_what_is_above_the_floors_is_what_suppression_leaves_of_all(rng, monkeypatch):
    """Against the limited suppression, which is mmdet's, without its limit."""
    count, classes = 60, 5
    corners = torch.from_numpy(rng.uniform(0, 60, (count, 2)).astype(np.float32))
    rois = torch.cat([corners, corners + 30], 1)
    rois[0] = torch.tensor([70.0, 70, 100, 100])  # reaches the edge, as mmdet's largest box mostly
    scores = torch.from_numpy((rng.integers(0, 40, (count, classes + 1)) / 40).astype(np.float32))
    deltas = torch.zeros(count, 1, 4)
    boxes = Boxes(rois, deltas, lambda rows, _: rows, torch.ones(4), 100.0)
    floors = torch.tensor([0.3, 0.01, 0.9, 2.0, 0.5])
    everything = best_detections(scores, boxes, 0.0, 0.5, count * classes)
    for part in (16, 8192):
        monkeypatch.setattr("gol.models.nms._PART", part)
        found, labels = detections_above(scores, boxes, floors, 0.5)
        above = everything[0][:, 4] >= floors[everything[1]]
        order = everything[1][above].sort(stable=True).indices
        torch.testing.assert_close(found, everything[0][above][order])
        assert labels.tolist() == everything[1][above][order].tolist()
    empty, labels = detections_above(scores, boxes, torch.full((5,), 2.0), 0.5)
    assert empty.shape == (0, 5) and not len(labels)
    scores[3, 2] = torch.nan
    with pytest.raises(UserError, match="1 of 360 scores of an image are not finite"):
        detections_above(scores, boxes, floors, 0.5)


def _run(folder, data, **changes):
    config = gol.load_experiment("demo/sigmoid", {**FEW, **changes}, data)
    save_config(config, folder)
    state = gol.build_detector(config).state_dict()
    generator = torch.Generator().manual_seed(0)
    weight = state["roi_head.bbox_head.fc_cls.weight"]
    weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    meta = {"fingerprint": fingerprint(config)}
    save_checkpoint(folder / "model.pth", state_dict=state, meta=meta)
    return folder


def _detect(run, **options):
    out = run / "d.json"
    detect(run, out, device="cpu", **options)
    return json.loads(out.read_text())


def test_detections_are_the_best_of_all_that_the_detector_finds(tmp_path, demo_data, monkeypatch):
    most = 15
    run = _run(tmp_path / "run", demo_data)
    found = _detect(run, per_class=most)
    limitless = _run(tmp_path / "all", demo_data, **EVERYTHING)
    everything = _detect(limitless, checkpoint=run / "model.pth")
    order = {
        image["id"]: place
        for place, image in enumerate(json.loads((demo_data / "val.json").read_text())["images"])
    }
    best = []
    for category in {entry["category_id"] for entry in everything}:
        mine = [entry for entry in everything if entry["category_id"] == category]
        best += sorted(mine, key=lambda e: (-e["score"], order[e["image_id"]]))[:most]
    assert len(found) == len(best) == 40 * most
    assert sorted(map(str, found)) == sorted(map(str, best))

    batches = module._batches
    monkeypatch.setattr(module, "_batches", lambda *a: batches(*a)[::-1])
    turned = _detect(run, per_class=most)
    assert turned != found and sorted(map(str, turned)) == sorted(map(str, found))
