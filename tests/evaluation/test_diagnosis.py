"""Precision, recall, thresholds and confusion, against lvis-api and by hand."""

import numpy as np
import pytest
from lvis_oracle import lvis_evaluation, random_dataset, random_detections, write
from seeds import fresh_seed

from gol.evaluation.diagnosis import best_threshold, diagnose
from gol.evaluation.lvis import evaluate


@pytest.fixture(params=[fresh_seed()])
def rng(request):
    return np.random.default_rng(request.param)


def test_curves_and_thresholds_are_those_of_lvis_api(rng, tmp_path):
    dataset = random_dataset(rng, images=20)
    detections = random_detections(rng, dataset, crowded=0)
    files = write(tmp_path, dataset, detections)
    found = diagnose(*files)
    for index, entry in enumerate(evaluate(*files)["per_class"]):
        # Below the curve of a class, over all IoU thresholds, lies its AP.
        mean = found.precision[:, :, index].mean()
        assert entry["segm_AP"] == (None if mean == -1 else pytest.approx(mean, abs=1e-12))

    thresholds = {each.id: each.threshold for each in found.classes}
    assert sum(t is not None for t in thresholds.values()) > 2
    kept = [
        d
        for d in detections
        if (least := thresholds[d["category_id"]]) is not None and d["score"] >= least
    ]
    recall = lvis_evaluation(dataset, kept, "segm").eval["recall"][0, :, 0]
    for each, expected in zip(found.classes, recall, strict=True):
        assert max(expected, 0) == pytest.approx(each.recall, abs=1e-12)
    # Each object is found as something, or missed; what is right is found as in lvis-api.
    objects = np.array([each.objects for each in found.classes])
    assert found.confusion[:-1].sum(1).tolist() == objects.tolist()
    right = np.array([each.recall for each in found.classes]) * objects
    assert np.diag(found.confusion)[:-1].tolist() == right.round().astype(int).tolist()


def test_the_best_threshold_is_that_of_a_search(rng):
    for _ in range(50):
        scores, right = rng.integers(0, 9, 30) / 8, rng.random(30) < 0.4
        objects = int(right.sum()) + int(rng.integers(0, 9))
        best = best_threshold(scores, right, objects)
        f1 = {t: 2 * right[scores >= t].sum() / ((scores >= t).sum() + objects) for t in scores}
        assert best[3] == pytest.approx(max(f1.values()))
        assert best[0] == max(t for t, value in f1.items() if value == max(f1.values()))
        assert best[1] == pytest.approx(right[scores >= best[0]].mean())
    assert best_threshold(scores, np.zeros(30, bool), 4) is None


def _square(left):
    return [left, 10, left + 20, 10, left + 20, 30, left, 30]


def _object(identity, image, category, left):
    return {
        **{"id": identity, "image_id": image, "category_id": category, "area": 400.0},
        **{"bbox": [left, 10, 20, 20], "segmentation": [_square(left)]},
    }


def test_confusion_honours_what_lvis_leaves_open(tmp_path):
    """Image 1 knows cats, dogs and no cows; in image 2 dogs are not annotated exhaustively."""
    image = {"height": 40, "width": 200}
    dataset = {
        "images": [
            {**image, "id": 1, "neg_category_ids": [3], "not_exhaustive_category_ids": []},
            {**image, "id": 2, "neg_category_ids": [], "not_exhaustive_category_ids": [2]},
        ],
        "categories": [
            {"id": i, "name": name, "frequency": "f"}
            for i, name in enumerate(("cat", "dog", "cow", "emu"), 1)
        ],
        "annotations": [
            *(_object(1, 1, 1, 10), _object(2, 1, 2, 60), _object(3, 2, 2, 10)),
            *(_object(4, 2, 3, 120), _object(5, 1, 1, 120)),
        ],
    }
    boxes = [  # image, category, left, score
        (1, 1, 10, 0.9),  # a cat
        (1, 1, 60, 0.8),  # a dog taken for a cat
        (1, 3, 150, 0.7),  # a cow where there is nothing
        (1, 4, 90, 0.9),  # an emu, of which image 1 does not know
        (2, 2, 10, 0.9),  # a dog
        (2, 2, 60, 0.9),  # perhaps a dog
        (2, 3, 120, 0.6),  # a cow
    ]
    detections = [
        {"image_id": i, "category_id": c, "bbox": [left, 10, 20, 20], "score": score}
        for i, c, left, score in boxes
    ]
    # The second cat is found with a low score, so that the cats' threshold lies below 0.8.
    detections.append({**detections[0], "bbox": [120, 10, 20, 20], "score": 0.5})
    found = diagnose(*write(tmp_path, dataset, detections))
    assert found.kind == "bbox"
    assert [each.threshold for each in found.classes] == [0.5, 0.9, 0.6, None]
    assert found.confusion.tolist() == [
        [2, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 0, 1, 0, 0],
        [0, 0, 0, 0, 0],
        [0, 0, 1, 0, 0],
    ]
