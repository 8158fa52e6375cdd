"""Our LVIS metrics against lvis-api, on random and on real ground truth."""

import json

import hotcoco
import numpy as np
import pytest
from lvis_oracle import flat, lvis_api, random_dataset, random_detections, write
from seeds import fresh_seed

from gol.evaluation import inputs, lvis
from gol.evaluation.diagnosis import diagnose
from gol.evaluation.lvis import IOU_TYPES, METRICS, evaluate, evaluate_file, format_metrics
from gol.files import stream

REAL = {"minicoco": "minicoco_lt/minicoco_lt_val.json", "lvis": "lvis_v0.5_val_100.json"}
CASES = [f"random-{fresh_seed()}" for _ in range(6)]
CASES += [pytest.param(f"{name}-{fresh_seed()}", marks=pytest.mark.slow) for name in REAL]


@pytest.fixture(scope="module", params=CASES)
def case(request, tmp_path_factory):
    """Ground truth, detections and their two files; the id ends with the seed."""
    name, seed = request.param.split("-")
    rng = np.random.default_rng(int(seed))
    if name in REAL:
        folder = request.getfixturevalue("shared_data")
        dataset = json.loads((folder / REAL[name]).read_text())
    else:
        dataset = random_dataset(rng)
    detections = random_detections(rng, dataset)
    return dataset, detections, write(tmp_path_factory.mktemp(name), dataset, detections)


def assert_equal(ours, theirs):
    assert ours.keys() == theirs.keys()
    missing = {key for key in ours if ours[key] is None}
    assert missing == {key for key in theirs if theirs[key] is None}
    for key in ours.keys() - missing:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-9), key


@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_equals_lvis_api(case, iou_type):
    dataset, detections, paths = case
    theirs = lvis_api(dataset, detections, iou_type)
    assert_equal(flat(evaluate(*paths), iou_type), theirs)
    assert theirs["AP"] > 0.01


def test_the_detections_hold_the_awkward_cases(case):
    dataset, detections, _ = case
    images = {image["id"]: image for image in dataset["images"]}
    present = {(a["image_id"], a["category_id"]) for a in dataset["annotations"]}
    pairs = [(d["image_id"], d["category_id"]) for d in detections]
    counts = np.unique([image for image, _ in pairs], return_counts=True)[1]
    empty_mask = [hotcoco.mask.area(d["segmentation"]) == 0 for d in detections]
    empty_box = [d["bbox"][2] * d["bbox"][3] == 0 for d in detections]
    ranked = [(*pair, d["score"]) for pair, d in zip(pairs, detections, strict=True)]
    assert counts.max() > 300
    assert any(empty_mask) and any(empty_box)
    assert len(set(ranked)) < len(ranked)
    assert {category for _, category in pairs} - {category for _, category in present}
    known = {(i, c) for i, image in images.items() for c in image["neg_category_ids"]} | present
    everywhere = len(known) == len(images) * len(dataset["categories"])  # as in plain COCO
    assert everywhere or set(pairs) - known


@pytest.mark.parametrize("max_detections", [1, 7, 1000])
@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_limit_of_detections(rng, tmp_path, iou_type, max_detections):
    dataset = random_dataset(rng)
    detections = random_detections(rng, dataset, crowded=6)  # so that one class exceeds 300 too
    paths = write(tmp_path, dataset, detections)
    result = evaluate(*paths, (iou_type,), max_detections)
    assert_equal(flat(result, iou_type), lvis_api(dataset, detections, iou_type, max_detections))


def test_it_does_not_matter_how_many_images_are_matched_at_once(rng, tmp_path, monkeypatch):
    dataset = random_dataset(rng, images=23)
    detections = random_detections(rng, dataset, crowded=0)
    rng.shuffle(detections)  # those of an image need not be neighbours
    for boxes in (True, False):
        if not boxes:
            detections = [{k: v for k, v in d.items() if k != "bbox"} for d in detections]
        files = write(tmp_path, dataset, detections)
        at_once, examined = evaluate(*files), diagnose(*files)
        monkeypatch.setattr(lvis, "_PART", int(rng.integers(1, 8)))
        assert evaluate(*files) == at_once
        again = diagnose(*files)
        assert again.classes == examined.classes
        assert (again.confusion == examined.confusion).all()
        monkeypatch.undo()


def test_images_and_classes_without_ground_truth(small):
    dataset, detections, _ = small
    dataset["annotations"] = []
    paths = write(small[2][0].parent, dataset, detections)
    result = evaluate(*paths)
    for iou_type in IOU_TYPES:
        assert set(flat(result, iou_type).values()) == {None}
        assert_equal(flat(result, iou_type), lvis_api(dataset, detections, iou_type))


@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_no_detections(small, iou_type):
    dataset, detections, paths = small
    paths[1].write_text("[]")
    result = evaluate(*paths, (iou_type,))
    # lvis-api fails on an empty list, so it gets one detection that it drops.
    dropped = detections[0] | {"bbox": [0.0, 0.0, 0.0, 5.0]}
    assert_equal(flat(result, iou_type), lvis_api(dataset, [dropped], iou_type))
    assert result["detections"] == 0 and result[iou_type]["AP"] == 0


def test_perfect_detections(rng, tmp_path):
    dataset = random_dataset(rng, awkward=False)
    for annotation in dataset["annotations"]:
        image = next(i for i in dataset["images"] if i["id"] == annotation["image_id"])
        rle = hotcoco.COCO(dataset).ann_to_rle(annotation | {"iscrowd": 0})
        annotation["segmentation"] = {
            "size": [image["height"], image["width"]],
            "counts": rle["counts"].decode(),
        }
    keys = ("image_id", "category_id", "bbox", "segmentation")
    detections = [{k: a[k] for k in keys} | {"score": 0.5} for a in dataset["annotations"]]
    result = evaluate(*write(tmp_path, dataset, detections))
    for iou_type in IOU_TYPES:
        values = [result[iou_type][name] for name in METRICS]
        assert values[0] == pytest.approx(1)
        assert all(value is None or value == pytest.approx(1) for value in values)


def test_annotation_id_0_counts_as_any_other(small):
    dataset, detections, paths = small
    expected = evaluate(*paths)
    for annotation in dataset["annotations"]:
        annotation["id"] -= 1
    assert evaluate(*write(paths[0].parent, dataset, detections)) == expected


def test_boxes_alone_need_no_masks(small):
    dataset, detections, paths = small
    expected = evaluate(*paths)
    for detection in detections:
        del detection["segmentation"]
    result = evaluate(*write(paths[0].parent, dataset, detections), ("bbox",))
    assert result["bbox"] == expected["bbox"]
    assert "segm" not in result and "segm_AP" not in result["per_class"][0]


def test_a_file_without_masks_is_scored_by_boxes(small, tmp_path):
    dataset, detections, _ = small
    for detection in detections:
        del detection["segmentation"]
    paths = write(tmp_path, dataset, detections)
    result = evaluate_file(*paths, tmp_path / "scores.json")
    assert_equal(flat(result, "bbox"), lvis_api(dataset, detections, "bbox"))
    assert set(result["segm"].values()) == {None}
    assert {entry["segm_AP"] for entry in result["per_class"]} == {None}


def test_result_file_and_text(small, tmp_path):
    dataset, detections, paths = small
    result = evaluate_file(*paths, tmp_path / "new" / "metrics.json")
    assert json.loads((tmp_path / "new" / "metrics.json").read_text()) == result
    assert result == evaluate(*paths)
    assert result["engine"] == f"hotcoco {hotcoco.__version__}"
    assert (result["images"], result["detections"]) == (len(dataset["images"]), len(detections))
    by_id = {category["id"]: category for category in dataset["categories"]}
    for row in result["per_class"]:
        kept = ("id", "name", "frequency", "image_count")
        assert {key: row[key] for key in kept} == {key: by_id[row["id"]][key] for key in kept}
    result["segm"]["APr"] = None
    lines = format_metrics(result).splitlines()
    assert "LVIS" in lines[0] and "300" in lines[0] and result["engine"] in lines[1]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    for iou_type in IOU_TYPES:
        shown = [None if cell == "-" else float(cell) for cell in rows[iou_type]]
        for name, value in zip(lines[2].split(), shown, strict=True):
            exact = result[iou_type][name]
            assert value == (None if exact is None else pytest.approx(100 * exact, abs=0.0501))
    assert len({len(line) for line in lines[2:]}) == 1


EXTRA = [0, 1.5, True, None, "text", "", [1, "a"], {"a": [{}]}, 2**70, float("-1e300")]
KEYS = ["license", "date_captured", "flickr_url", "coco_url", "supercategory", "segmentation_info"]
KEYS += ["attributes", "isbbox", "iscrowd", "score", "synonyms", "file_name"]


def test_keys_that_nobody_reads_may_hold_anything(small, rng):
    dataset, detections, paths = small
    expected = evaluate(*paths)
    for section in ("images", "annotations", "categories"):
        for entry in dataset[section]:
            extra = {str(rng.choice(KEYS)): EXTRA[rng.integers(len(EXTRA))] for _ in range(3)}
            entry.update({key: value for key, value in extra.items() if key not in entry})
    dataset |= {"info": 7, "licenses": [None], "videos": {}}
    assert evaluate(*write(paths[0].parent, dataset, detections)) == expected


@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_ids_of_any_size_and_sign_stay_what_they_are(small, rng, iou_type):
    dataset, detections, paths = small
    theirs = lvis_api(dataset, detections, iou_type)
    # Neighbours of 62 bits are one number in float64.
    start = {"images": 2**62 + int(rng.integers(1000)), "categories": -40, "annotations": -9}
    new = {
        section: {e["id"]: first + rank for rank, e in enumerate(sorted(dataset[section], key=_id))}
        for section, first in start.items()
    }
    for section, numbers in new.items():
        for entry in dataset[section]:
            entry["id"] = numbers[entry["id"]]
    for image in dataset["images"]:
        for key in ("neg_category_ids", "not_exhaustive_category_ids"):
            image[key] = [new["categories"][i] for i in image[key]]
    for entry in [*dataset["annotations"], *detections]:
        entry["image_id"] = new["images"][entry["image_id"]]
        entry["category_id"] = new["categories"][entry["category_id"]]
    ours = evaluate(*write(paths[0].parent, dataset, detections), (iou_type,))
    back = {number: old for old, number in new["categories"].items()}
    for row in ours["per_class"]:
        row["id"] = back[row["id"]]
    assert_equal(flat(ours, iou_type), theirs)
    assert theirs["AP"] > 0.01


def _id(entry):
    return entry["id"]


@pytest.mark.parametrize("iou_type", IOU_TYPES)
def test_masks_without_boxes_are_scored_as_lvis_api_does(small, iou_type):
    dataset, detections, paths = small
    for detection in detections:
        del detection["bbox"]
    ours = evaluate(*write(paths[0].parent, dataset, detections))
    # For boxes too lvis-api takes those of the masks.
    theirs = lvis_api(dataset, detections, iou_type, keep_masks=True)
    assert_equal(flat(ours, iou_type), theirs)
    assert theirs["AP"] > 0.01 and ours["protocol"]["sizes_by"] == "mask area"


@pytest.mark.parametrize("count", ["many", float("nan"), 10**400, 2.5, [3]])
def test_a_count_of_images_that_is_none_is_left_out(small, tmp_path, count):
    dataset, detections, _ = small
    dataset["categories"][0]["image_count"] = count
    result = evaluate_file(*write(tmp_path, dataset, detections), tmp_path / "scores.json")
    found = {row["id"]: row["image_count"] for row in result["per_class"]}
    assert found[dataset["categories"][0]["id"]] == (count if type(count) is int else None)


def test_the_size_of_a_mask_may_be_written_as_a_float(small):
    dataset, detections, paths = small
    expected = evaluate(*paths)
    for detection in detections:
        detection["segmentation"]["size"] = [*map(float, detection["segmentation"]["size"])]
    assert evaluate(*write(paths[0].parent, dataset, detections)) == expected


@pytest.mark.parametrize("masks", [None, True, False])
def test_a_run_of_entries_is_read_like_each_alone(small, monkeypatch, masks):
    *_, (annotations, detections) = small
    monkeypatch.setattr(stream, "_WINDOW", 3000)
    truth = inputs.read_ground_truth(annotations)
    together = inputs.read_detections(detections, truth, masks)
    monkeypatch.setattr(inputs._Entries, "_columns", lambda *_: {}["no"])
    alone = inputs.read_detections(detections, truth, masks)
    assert together.table.tobytes() == alone.table.tobytes()
    assert together.masks == alone.masks
    assert together.areas.tobytes() == alone.areas.tobytes()
