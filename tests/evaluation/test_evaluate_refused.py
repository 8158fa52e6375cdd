"""What is wrong with ground truth or detections is named in one line, and nothing is written."""

import json
import re

import pytest
from lvis_oracle import write

from gol.errors import UserError
from gol.evaluation.lvis import evaluate, evaluate_file
from gol.files import stream


def change_detection(**values):
    def change(dataset, detections):
        detections[5] = {k: v for k, v in (detections[5] | values).items() if v is not ...}

    return change


def change_dataset(section, **values):
    def change(dataset, detections):
        dataset[section][1] = {
            k: v for k, v in (dataset[section][1] | values).items() if v is not ...
        }

    return change


def no_section(name):
    return lambda dataset, detections: dataset.pop(name)


def cut_mask(dataset, detections):
    """pycocotools compares such masks for ever."""
    detections[5]["segmentation"]["counts"] = "1"


BAD = {
    "no score": (change_detection(score=...), "detection 5 has no 'score'"),
    "no box": (change_detection(bbox=...), "detection 5 has no 'bbox'"),
    "no mask": (change_detection(segmentation=...), "detection 5 has no 'segmentation'"),
    "no image id": (change_detection(image_id=...), "detection 5 has no 'image_id'"),
    "no category id": (change_detection(category_id=...), "detection 5 has no 'category_id'"),
    "nan score": (change_detection(score=float("nan")), "detection 5 has score nan"),
    "infinite score": (change_detection(score=float("inf")), "detection 5 has score inf"),
    "text score": (change_detection(score="high"), "detection 5 must have numbers"),
    "null score": (change_detection(score=None), "detection 5 must have numbers"),
    "three box numbers": (change_detection(bbox=[1, 2, 3]), "detection 5 must have numbers"),
    "nan in box": (change_detection(bbox=[1, 2, float("nan"), 3]), "detection 5 has bbox"),
    "negative width": (change_detection(bbox=[1, 2, -3, 3]), "width or height is negative"),
    "unknown image": (change_detection(image_id=987654321), "image_id 987654321"),
    "half an image id": (change_detection(image_id=1.5), "image_id 1.5"),
    "unknown category": (change_detection(category_id=777), "category_id 777"),
    "polygon mask": (change_detection(segmentation=[[1, 2, 3, 4, 5, 6]]), "compressed RLE"),
    "mask size": (change_detection(segmentation={"size": [3, 3], "counts": "9"}), r"\[3, 3\]"),
    "no ground truth": (no_section("annotations"), "annotations.json: .*annotations"),
    "no images": (no_section("images"), "annotations.json: .*images"),
    "no categories": (no_section("categories"), "annotations.json: .*categories"),
    "no frequency": (change_dataset("categories", frequency=...), r"categories\[1\].*frequency"),
    "wrong frequency": (change_dataset("categories", frequency="x"), "'x': allowed are r, c, f"),
    "no negatives": (change_dataset("images", neg_category_ids=...), r"images\[1\].*neg_category"),
    "no area": (change_dataset("annotations", area=...), r"annotations\[1\] has no area"),
    "text area": (change_dataset("annotations", area="big"), r"annotations\[1\] has area 'big'"),
    "NaN area": (change_dataset("annotations", area=float("nan")), "has area nan"),
    "area above floats": (change_dataset("annotations", area=10**400), "has area 1000"),
    "NaN in a true box": (change_dataset("annotations", bbox=[0, 0, float("nan"), 1]), "has bbox"),
    "a polygon far outside": (
        change_dataset("annotations", segmentation=[[0, 0, 1e308, 0, 1, 1]]),
        "has segmentation",
    ),
    "a box as polygon": (
        change_dataset("annotations", segmentation=[[0, 0, 1, 1]]),
        "segmentation",
    ),
    "a true mask of another size": (
        change_dataset("annotations", segmentation={"size": [3, 3], "counts": "9"}),
        r"segmentation has size \[3, 3\]",
    ),
    "true id": (change_dataset("annotations", id=True), "has id True"),
    "width of zero": (change_dataset("images", width=0), "has width 0"),
    "cut-off mask": (cut_mask, "detection 5: segmentation does not cover"),
    "broken box": (change_dataset("annotations", bbox=[1, 2]), "annotations.json"),
    "stray annotation": (change_dataset("annotations", image_id=987654321), "987654321"),
    "repeated id": (change_dataset("annotations", id=1), r"annotations\[1\] repeats the id 1"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_input(small, tmp_path, change, message):
    dataset, detections, paths = small
    change(dataset, detections)
    write(tmp_path, dataset, detections)
    with pytest.raises(UserError, match=message) as caught:
        evaluate_file(*paths, tmp_path / "metrics.json")
    assert re.search(r"annotations\.json|detections\.json", str(caught.value))
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.iterdir()) == sorted(paths)


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("damage", ["truncated", "empty", "missing", "another schema"])
def test_broken_file(small, tmp_path, which, damage):
    path = small[2][which]
    text = path.read_text()
    path.write_text({"truncated": text[:-200], "another schema": '"text"'}.get(damage, ""))
    if damage == "missing":
        path.unlink()
    with pytest.raises(UserError, match=path.name):
        evaluate_file(*small[2], tmp_path / "metrics.json")
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("arguments", [{"iou_types": ("keypoints",)}, {"max_detections": 0}])
def test_bad_arguments(small, arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        evaluate(*small[2], **arguments)


def test_broken_mask(small):
    dataset, detections, paths = small
    size = detections[5]["segmentation"]["size"]
    detections[5]["segmentation"] = {"size": size, "counts": "!!"}
    with pytest.raises(UserError, match="detection 5: segmentation"):
        evaluate(*write(paths[0].parent, dataset, detections))


def test_a_box_that_only_some_detections_have_is_missed_by_name(small):
    dataset, detections, paths = small
    del detections[3]["bbox"]
    with pytest.raises(UserError, match="detection 3 has no 'bbox'"):
        evaluate(*write(paths[0].parent, dataset, detections))


def test_a_raw_coco_file_is_sent_to_preprocess(small):
    dataset, detections, paths = small
    for image in dataset["images"]:
        del image["neg_category_ids"]
    with pytest.raises(UserError, match="gol preprocess"):
        evaluate(*write(paths[0].parent, dataset, detections))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": float("nan")}, "has score nan: it must be a finite number"),
        ({"bbox": [5, 5, -3, 2]}, "has bbox .*: width or height is negative"),
        ({"bbox": "1234"}, "must have numbers"),
        ({"image_id": -4}, "has image_id -4: not among the images"),
        ({"segmentation": {"size": [1, 2], "counts": "2"}}, "has size .* of its image is"),
    ],
)
def test_a_bad_entry_far_into_the_file_is_named(small, monkeypatch, change, message):
    _, entries, (annotations, detections) = small
    monkeypatch.setattr(stream, "_WINDOW", 3000)
    place = len(entries) - 20
    entries = [*entries[:place], entries[place] | change, *entries[place + 1 :]]
    detections.write_text(json.dumps(entries))
    with pytest.raises(UserError, match=f"detection {place}.*{message}"):
        evaluate(annotations, detections)
