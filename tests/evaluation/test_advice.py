"""AP of 0 ends with what is likely wrong, told by the files."""

import json

import pytest
from run_folders import bare_config, make_run

from gol.cli import main
from gol.evaluation.advice import advice
from gol.evaluation.lvis import evaluate
from gol.run_folder import RunFolder

BOXES = ([10, 10, 30, 30], [50, 20, 20, 40], [5, 60, 40, 20])


def polygon(box):
    x, y, width, height = box
    return [[x, y, x + width, y, x + width, y + height, x, y + height]]


@pytest.fixture
def truth():
    """Three objects of three classes on each of four images of 100 x 100 pixels."""
    ids = [1, 2, 3]
    shared = {"neg_category_ids": ids, "not_exhaustive_category_ids": []}
    names = ("cup", "fork", "plate")
    return {
        "images": [{"id": i, "height": 100, "width": 100, **shared} for i in range(1, 5)],
        "categories": [
            {"id": i, "name": name, "frequency": "r", "image_count": 4}
            for i, name in enumerate(names, 1)
        ],
        "annotations": [
            {
                "id": 10 * image + number,
                "image_id": image,
                "category_id": number,
                "bbox": box,
                "area": box[2] * box[3],
                "segmentation": polygon(box),
            }
            for image in range(1, 5)
            for number, box in enumerate(BOXES, 1)
        ],
    }


def found(truth, **changes):
    """A perfect detection of every object but for what is changed."""
    return [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "score": 0.5,
            "bbox": a["bbox"],
        }
        | {key: change(a) for key, change in changes.items()}
        for a in truth["annotations"]
    ]


def told(folder, truth, detections, run=None):
    annotations, out = folder / "val.json", folder / "d.json"
    annotations.write_text(json.dumps(truth))
    out.write_text(json.dumps(detections))
    return advice(evaluate(annotations, out), annotations, out, run)


def test_an_ap_above_0_needs_none(tmp_path, truth):
    assert told(tmp_path, truth, found(truth)) == []


def elsewhere(annotation):
    """The corners instead of corner and size, a common mistake."""
    x, y, width, height = annotation["bbox"]
    return [2 * x + 30, y, x + width, y + height]


def other(annotation):
    return annotation["category_id"] % 3 + 1


def mirrored(annotation):
    """A mask beside the object."""
    from pycocotools import mask

    rle = mask.frPyObjects(polygon([70, 85, 9, 9]), 100, 100)[0]
    return {"size": rle["size"], "counts": rle["counts"].decode()}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bbox": elsewhere}, "0% of the objects have a detection on them (IoU 0.5), of whatever"),
        ({"category_id": other}, "100% of the objects have a detection on them, but 0% one of"),
        ({"segmentation": mirrored}, "boxes are found (box AP 100.0) and masks are not"),
    ],
)
def test_what_the_detections_show(tmp_path, truth, changes, words):
    (line,) = told(tmp_path, truth, found(truth, **changes))
    assert line.startswith("AP is 0.0: ") and words in line


def test_no_detection_at_all(tmp_path, truth):
    (line,) = told(tmp_path, truth, [])
    assert "not one detection on 4 images; all scores lie below the threshold" in line


def test_right_ones_among_too_many_others(tmp_path, truth):
    wrong = [
        {**entry, "score": 0.9 - i / 1000, "bbox": [60, 70, 5 + i / 10, 9]}
        for i in range(99)
        for entry in found(truth)
    ]
    right = [entry for entry in found(truth) if entry["image_id"] == 1]
    for entry in right:
        entry["score"] = 1e-3
        entry["bbox"] = [*entry["bbox"][:3], 0.55 * entry["bbox"][3]]
    words = "25% of the objects have a detection of their class on them, among too many others"
    assert words in told(tmp_path, truth, [*wrong, *right])[0]


def test_classes_that_no_training_image_shows_are_named(tmp_path, truth):
    for category in truth["categories"][:2]:
        category["image_count"] = 0
    lines = told(tmp_path, truth, [])
    assert "2 of the 3 classes of these images are in no training image (cup, fork)" in lines[1]
    truth["categories"][0]["image_count"] = 9
    assert len(told(tmp_path, truth, [])) == 1


@pytest.mark.parametrize(
    ("runner", "losses", "words"),
    [
        ({"max_epochs": 1}, [3.0, 2.9], "it has hardly fallen, so train longer"),
        ({"max_epochs": 1}, [3.0, 1.0], "train longer (runner.max_epochs); it began"),
        ({"max_iters": 20}, [3.0, 1.0], "train longer (runner.max_iters); it began"),
    ],
)
def test_what_the_training_shows(tmp_path, truth, runner, losses, words):
    run = RunFolder(make_run(tmp_path / "run"))
    entries = [{"iteration": 10 * i, "loss": loss} for i, loss in enumerate(losses, 1)]
    run.metrics.write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    config = json.loads(run.config.read_text())
    full = bare_config(tmp_path / "val.json")
    run.config.write_text(
        json.dumps({**full, "runner": runner, "gol": {**full["gol"], **config["gol"]}})
    )
    line = told(tmp_path, truth, [], run)[1]
    assert f"from 3 to {losses[1]:g} in 20 iterations: {words}" in line


def test_evaluate_says_it_below_the_table(tmp_path, truth, capsys):
    told(tmp_path, truth, [])
    files = [str(tmp_path / name) for name in ("val.json", "d.json")]
    assert main(["evaluate", *files, "--out", str(tmp_path / "s.json")]) == 0
    *_, table, line = capsys.readouterr().out.splitlines()
    assert table.startswith("bbox") and line.startswith("AP is 0.0: not one detection")
