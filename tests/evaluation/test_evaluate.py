"""Our LVIS metrics against lvis-api, on random and on real ground truth; and bad input."""

import json
import re

import hotcoco
import numpy as np
import pytest
from lvis_oracle import flat, lvis_api, random_dataset, random_detections, write
from seeds import fresh_seed

from gol.errors import UserError
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


@pytest.fixture
def small(rng, tmp_path):
    """A random case for tests whose claim holds for any."""
    dataset = random_dataset(rng)
    detections = random_detections(rng, dataset)
    return dataset, detections, write(tmp_path, dataset, detections)


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
