"""Any data set comes out in one schema that mmdet, lvis-api and hotcoco read; or not at all."""

import copy
import hashlib
import json
import os
import shutil

import hotcoco
import numpy as np
import pytest
from coco_files import blank_images, random_coco, to_mask
from PIL import Image
from seeds import fresh_seed

from gol import compat
from gol.data import preprocess
from gol.data.demo.draw import draw_demo
from gol.data.prepared import raw_digests
from gol.data.preprocess import preprocess_dataset
from gol.errors import UserError
from gol.losses.class_statistics import ClassStatistics

JSON = ("classes.json", "summary.json", "train.json", "val.json")
OUTPUTS = sorted([*JSON, *(f".{name}.sha256" for name in JSON), "train.store", "val.store"])


@pytest.fixture(params=[fresh_seed()])
def rng(request):
    """A generator; the seed is in the test's id."""
    return np.random.default_rng(request.param)


@pytest.fixture
def coco(rng, tmp_path):
    """A random COCO-schema data set: {split: data}, written by ``run``."""
    return {
        "train": random_coco(rng, tmp_path / "train", images=8),
        "val": random_coco(rng, tmp_path / "val", first_id=101),
    }


def run(tmp_path, coco, **options):
    files = []
    for split, data in coco.items():
        files += [tmp_path / f"raw_{split}.json", tmp_path / split]
        files[-2].write_text(json.dumps(data))
    return preprocess_dataset(*files, tmp_path / "out", **options)


def read(folder, name):
    return json.loads((folder / f"{name}.json").read_text())


@pytest.fixture(scope="module", params=["demo", "minicoco"])
def prepared(request, tmp_path_factory):
    """(raw files, image folders, output folder, summary) of two real uses."""
    out = tmp_path_factory.mktemp("out")
    if request.param == "demo":
        root = tmp_path_factory.mktemp("demo")
        draw_demo(root, fresh_seed(10**6), train_images=60, val_images=24, classes=12)
        raw, images = (root / "train.json", root / "val.json"), (root / "train", root / "val")
    else:
        root = request.getfixturevalue("shared_data") / "minicoco_lt"
        raw = tuple(root / f"minicoco_lt_{split}.json" for split in ("train", "val"))
        images = (root, root)
    summary = preprocess_dataset(raw[0], images[0], raw[1], images[1], out)
    return raw, images, out, summary


def test_nothing_is_lost_and_the_images_are_found(prepared):
    raw, images, out, summary = prepared
    assert sorted(os.listdir(out)) == OUTPUTS
    assert summary == read(out, "summary")
    for split, file in zip(("train", "val"), raw, strict=True):
        assert summary[split]["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
    assert raw_digests(out / "train.store") == {s: summary[s]["sha256"] for s in ("train", "val")}
    for split, file, folder in zip(("train", "val"), raw, images, strict=True):
        before, after = json.loads(file.read_text()), read(out, split)
        assert after["annotations"] == [{**a, "iscrowd": 0} for a in before["annotations"]]
        assert [{k: v for k, v in i.items() if k != "file_name"} for i in after["images"]] == (
            before["images"]
        )
        for image in after["images"]:
            assert (folder / image["file_name"]).is_file()
            assert image["coco_url"].endswith(image["file_name"])
        names = [category["name"] for category in after["categories"]]
        assert names == [c["name"] for c in before["categories"]]
        assert [c["frequency"] for c in after["categories"]] == [
            c["frequency"] for c in json.loads(raw[0].read_text())["categories"]
        ]
        assert summary[split]["objects"] == len(before["annotations"])
        assert summary[split]["problems"] == []
    statistics = ClassStatistics.load(out / "classes.json")
    assert statistics == ClassStatistics.from_annotations(read(out, "train"))


def test_mmdet_lvis_and_hotcoco_read_it(prepared):
    _, images, out, _ = prepared
    compat.apply()
    from lvis import LVIS
    from mmdet.datasets import CocoDataset

    for split, folder in zip(("train", "val"), images, strict=True):
        data = read(out, split)
        steps = [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
        ]
        dataset = CocoDataset(
            str(out / f"{split}.json"),
            steps,
            classes=[category["name"] for category in data["categories"]],
            img_prefix=str(folder),
            filter_empty_gt=False,
        )
        assert dataset.cat_ids == sorted(category["id"] for category in data["categories"])
        assert len(dataset) == len(data["images"])
        for index in range(0, len(dataset), 7):
            item = dataset[index]
            info = dataset.data_infos[index]
            assert item["img"].shape == (info["height"], info["width"], 3)
            large = {
                a["id"]: a
                for a in data["annotations"]
                if a["image_id"] == info["id"] and min(a["bbox"][2:]) >= 1
            }
            assert [m.sum() for m in item["gt_masks"].masks] == [a["area"] for a in large.values()]
        assert len(LVIS(str(out / f"{split}.json")).anns) == len(data["annotations"])
        engine = hotcoco.LVIS(str(out / f"{split}.json"))
        assert len(engine.dataset["annotations"]) == len(data["annotations"])


def test_once_more_changes_nothing(prepared, tmp_path):
    _, images, out, _ = prepared
    preprocess_dataset(out / "train.json", images[0], out / "val.json", images[1], tmp_path)
    for name in ("train.json", "train.store", "val.json", "val.store", "classes.json"):
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


def test_lvis_annotations_come_out_as_they_were(shared_data, tmp_path):
    source = shared_data / "lvis_v0.5_val_100.json"
    before = json.loads(source.read_text())
    images = blank_images(before, tmp_path / "images")
    summary = preprocess_dataset(source, images, source, images, tmp_path, decode=False)
    for split in ("train", "val"):
        after = read(tmp_path, split)
        assert summary[split]["problems"] == []
        assert after["annotations"] == [{**a, "iscrowd": 0} for a in before["annotations"]]
        assert after["categories"] == sorted(before["categories"], key=lambda c: c["id"])


def test_coco_becomes_lvis(coco, tmp_path):
    """Counts, groups, exhaustive labels, area and masks of a file that states none of LVIS's."""
    for a in coco["train"]["annotations"][::3]:
        del a["area"]
    del coco["train"]["annotations"][1]["iscrowd"]
    run(tmp_path, coco, thresholds=(2, 5))
    train, val = read(tmp_path / "out", "train"), read(tmp_path / "out", "val")
    assert train["categories"] == val["categories"]
    ids = [category["id"] for category in train["categories"]]
    assert ids == sorted(c["id"] for c in coco["train"]["categories"])
    for category in train["categories"]:
        labelled = [a for a in train["annotations"] if a["category_id"] == category["id"]]
        count = len({a["image_id"] for a in labelled})
        assert category["image_count"] == count
        assert category["instance_count"] == len(labelled)
        assert category["frequency"] == ("r" if count <= 2 else "c" if count <= 5 else "f")
        assert category["synonyms"] == [category["name"]]
    for split, data in (("train", train), ("val", val)):
        size = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
        for before, after in zip(coco[split]["annotations"], data["annotations"], strict=True):
            same = ("id", "image_id", "category_id", "bbox")
            assert [before[key] for key in same] == [after[key] for key in same]
            masks = [to_mask(a["segmentation"], *size[a["image_id"]]) for a in (before, after)]
            assert (masks[0] == masks[1]).all()
            assert after["area"] == before.get("area", masks[0].sum())
            if isinstance(after["segmentation"], dict):
                assert isinstance(after["segmentation"]["counts"], str)
        for image in data["images"]:
            present = {
                a["category_id"] for a in data["annotations"] if a["image_id"] == image["id"]
            }
            assert image["neg_category_ids"] == [i for i in ids if i not in present]
            assert image["not_exhaustive_category_ids"] == []


def test_stated_groups_are_kept(coco, tmp_path, rng):
    groups = {c["id"]: str(rng.choice(list("rcf"))) for c in coco["train"]["categories"]}
    for category in coco["train"]["categories"]:
        category |= {"frequency": groups[category["id"]], "image_count": 77}
    run(tmp_path, coco)
    for split in ("train", "val"):
        categories = read(tmp_path / "out", split)["categories"]
        assert {c["id"]: c["frequency"] for c in categories} == groups
        assert {c["image_count"] for c in categories} == {77}


def test_crowds_stay_in_train_and_are_not_exhaustive_in_val(coco, tmp_path, rng):
    """COCO's crowd regions are no objects; detections in them are not counted as false."""
    crowds = {}
    for split, data in coco.items():
        crowds[split] = rng.choice(data["annotations"], 5, replace=False).tolist()
        for a in crowds[split]:
            a["iscrowd"] = 1
    summary = run(tmp_path, coco)
    train, val = read(tmp_path / "out", "train"), read(tmp_path / "out", "val")
    flagged = {a["id"] for a in train["annotations"] if a["iscrowd"]}
    assert flagged == {a["id"] for a in crowds["train"]}
    assert sum(c["instance_count"] for c in train["categories"]) == len(train["annotations"]) - 5
    assert (summary["train"]["crowds"], summary["val"]["crowds"]) == (5, 5)
    assert "val: 5 crowd regions" in summary["text"]
    assert not any(a["iscrowd"] for a in val["annotations"])
    assert len(val["annotations"]) == len(coco["val"]["annotations"]) - 5
    for image in val["images"]:
        crowded = {a["category_id"] for a in crowds["val"] if a["image_id"] == image["id"]}
        assert set(image["not_exhaustive_category_ids"]) == crowded
        assert not crowded & set(image["neg_category_ids"])


@pytest.mark.parametrize(
    ("keys", "place"),
    [
        ({"file_name": "a/x.jpg", "coco_url": "http://h/b/x.jpg"}, "a/x.jpg"),
        ({"file_name": "a/x.jpg", "coco_url": "http://h/b/x.jpg"}, "b/x.jpg"),
        ({"coco_url": "http://h/train2017/x.jpg"}, "train2017/x.jpg"),
        ({"coco_url": "http://h/train2017/x.jpg"}, "x.jpg"),
        ({"file_name": "COCO_val2014_x.jpg", "coco_url": "http://h/val2017/x.jpg"}, "x.jpg"),
    ],
)
def test_where_images_are_looked_for(coco, tmp_path, keys, place):
    image = coco["val"]["images"][0]
    target = tmp_path / "val" / place
    target.parent.mkdir(exist_ok=True)
    shutil.move(tmp_path / "val" / image.pop("file_name"), target)
    image |= keys
    run(tmp_path, coco)
    assert read(tmp_path / "out", "val")["images"][0]["file_name"] == place


def test_errors_of_both_splits_are_one_line_and_nothing_is_written(coco, tmp_path):
    good = copy.deepcopy(coco)
    coco["train"]["annotations"][0]["image_id"] = 999
    coco["train"]["annotations"][1]["area"] = 0
    coco["val"]["annotations"][2]["bbox"] = [0, 0, 500, 10]
    image = tmp_path / "val" / coco["val"]["images"][0]["file_name"]
    content = image.read_bytes()
    image.write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError) as error:
        run(tmp_path, coco)
    line = str(error.value)
    assert "\n" not in line
    for part in ("raw_train.json: 1 x unknown image", "raw_val.json: ", "1 x box outside", image):
        assert str(part) in line
    assert "zero area" not in line  # repaired, so no reason to stop
    assert os.listdir(tmp_path / "out") == ["problems.json"]
    report = read(tmp_path / "out", "problems")
    kinds = {p["kind"] for problems in report.values() for p in problems}
    assert kinds == {
        "unknown image",
        "zero area",
        "box outside the image",
        "unreadable image file",
    }
    image.write_bytes(content)
    run(tmp_path, good)
    assert sorted(os.listdir(tmp_path / "out")) == OUTPUTS


def test_bad_boxes_can_be_left_out(coco, tmp_path):
    coco["val"]["annotations"][2]["bbox"] = [0, 0, 500, 10]
    with pytest.raises(UserError, match="box outside the image"):
        run(tmp_path, coco)
    summary = run(tmp_path, coco, drop_bad=True)
    assert summary["val"]["objects"] == len(coco["val"]["annotations"]) - 1
    assert "box outside the image" in summary["text"]


def spoil_other_name(coco):
    coco["val"]["categories"][0]["name"] = "other"


def spoil_further_class(coco):
    coco["val"]["categories"].append({"id": 900, "name": "extra"})


def spoil_no_train_object(coco):
    coco["train"]["annotations"] = []


def spoil_only_crowds(coco):
    for annotation in coco["val"]["annotations"]:
        annotation["iscrowd"] = 1


def spoil_no_image(coco):
    coco["val"]["images"] = []


def spoil_no_category(coco):
    coco["train"]["categories"] = []


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (spoil_other_name, r"raw_val\.json: category \d+ \('other'\) is 'class \d' in the train"),
        (spoil_further_class, r"category 900 \('extra'\) does not exist in the train split"),
        (spoil_no_train_object, r"raw_train\.json: key 'annotations' has no object"),
        (spoil_only_crowds, r"raw_val\.json: key 'annotations' has no object"),
        (spoil_no_image, r"raw_val\.json: key 'images' is empty"),
        (spoil_no_category, r"raw_train\.json: key 'categories' is empty"),
    ],
)
def test_splits_that_cannot_be_used(coco, tmp_path, spoil, named):
    spoil(coco)
    with pytest.raises(UserError, match=named) as error:
        run(tmp_path, coco)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_missing_image_folder(coco, tmp_path):
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(UserError, match=r"train, the image folder of .*json, does not exist"):
        run(tmp_path, coco)


def test_unwritable_folder(coco, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        run(tmp_path, coco)


DEEP = []
for _ in range(900):
    DEEP = [DEEP]
UNREAD = [float("nan"), float("inf"), 7, None, True, 10**400, "\ud800", [float("nan")], {"a": {}}]


@pytest.mark.parametrize("key", ["date_captured", "coco_url", "supercategory", "info", "license"])
def test_what_nobody_reads_may_hold_anything(coco, tmp_path, rng, key):
    for data in coco.values():
        for section in ("images", "annotations", "categories"):
            for entry in data[section]:
                entry[key] = UNREAD[rng.integers(len(UNREAD))]
        data["info"] = data["categories"][0][key] = DEEP
    run(tmp_path, coco)
    for split in coco:
        text = (tmp_path / f"out/{split}.json").read_text()
        json.loads(text, parse_constant=pytest.fail)


def test_a_split_that_cannot_be_used_leaves_the_other_unwritten(coco, tmp_path):
    """A val split that failed after the train split was written left half a dataset behind."""
    coco["val"]["images"][0]["file_name"] = "caf\udce9.jpg"
    with pytest.raises(UserError, match=r"images\[0\] has a name that is not UTF-8: .*udce9"):
        run(tmp_path, coco)
    assert os.listdir(tmp_path / "out") == ["problems.json"]


def test_what_does_not_count_is_said_in_numbers(coco, tmp_path):
    train, val = coco["train"], coco["val"]
    for a in train["annotations"][:3] + val["annotations"][:2]:
        a["iscrowd"] = 1
    for a in train["annotations"][3:7]:
        a["ignore"] = 1
    train["categories"].append({"id": 999, "name": "never seen"})
    image = train["images"][-1]
    Image.new("RGB", (image["width"], 31)).save(tmp_path / "train" / image["file_name"])
    image["height"] = 31
    small = [a for a in train["annotations"] if a["image_id"] == image["id"]]
    for a in small:
        a |= {"bbox": [1, 1, 9, 9], "area": 40, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    small[0]["bbox"] = [1, 1, 0.5, 9]
    summary = run(tmp_path, coco)
    found = summary["train"]
    assert (found["crowds"], found["ignored"], found["small_images"]) == (3, 4, 1)
    assert found["objects"] == len(train["annotations"]) - 7
    assert (found["objects_in_small_images"], found["thin_objects"]) == (len(small), 1)
    assert "never seen" in found["classes_without_object"]
    assert summary["val"]["crowds"] == 2
    for words in (
        "train: 3 crowd regions",
        "train: 4 annotations to be ignored",
        "train: 1 of 8 images have a side under 32 px: training leaves them out,",
        "train: 1 objects under 1 px",
        "never seen",
        "val: 2 crowd regions",
    ):
        assert words in summary["text"]


@pytest.mark.parametrize("key", ["iscrowd", "ignore"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_nothing_that_counts_is_refused_with_the_reason(coco, tmp_path, key, split):
    for a in coco[split]["annotations"]:
        a[key] = 1
    with pytest.raises(UserError, match=rf"no object .*: all \d+ annotations are {key}"):
        run(tmp_path, coco)


def test_a_split_whose_annotations_are_all_left_out_says_why(coco, tmp_path):
    for a in coco["train"]["annotations"]:
        del a["bbox"]
    with pytest.raises(UserError, match=r"left out were 32 x missing or wrong key \(annotation 1 "):
        run(tmp_path, coco, drop_bad=True)


def test_images_that_are_all_too_small_are_one_line(coco, tmp_path):
    for image in coco["train"]["images"]:
        Image.new("RGB", (28, 28)).save(tmp_path / "train" / image["file_name"])
        image |= {"width": 28, "height": 28}
    for a in coco["train"]["annotations"]:
        a |= {"bbox": [1, 1, 9, 9], "area": 40, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    with pytest.raises(UserError, match=r"raw_train.json: all \d images .* side under 32 px"):
        run(tmp_path, coco)
    image = coco["train"]["images"][0]  # a large one of crowds alone does not help
    Image.new("RGB", (64, 64)).save(tmp_path / "train" / image["file_name"])
    image |= {"width": 64, "height": 64}
    for a in coco["train"]["annotations"]:
        a["iscrowd"] = int(a["image_id"] == image["id"])
    with pytest.raises(UserError, match=r"all \d images with objects have a side under 32 px"):
        run(tmp_path, coco)


def test_the_digest_is_of_the_content_that_was_checked(coco, tmp_path, monkeypatch):
    def replaced(*args, **kwargs):
        content.append((tmp_path / "raw_train.json").read_bytes())
        (tmp_path / "new").write_bytes(b"{}")
        os.replace(tmp_path / "new", tmp_path / "raw_train.json")
        monkeypatch.setattr(preprocess, "examine", examine)
        return examine(*args, **kwargs)

    content, examine = [], preprocess.examine
    monkeypatch.setattr(preprocess, "examine", replaced)
    summary = run(tmp_path, coco)
    assert summary["train"]["sha256"] == hashlib.sha256(content[0]).hexdigest()


def test_drop_bad_is_advised_where_it_helps(coco, tmp_path):
    coco["val"]["annotations"][2]["bbox"] = [-2, 0, 20, 10]
    with pytest.raises(UserError, match=r"box outside .*; `drop_bad: true` in the dataset's file"):
        run(tmp_path, coco)
    coco["val"]["annotations"][3]["area"] = "wide"
    with pytest.raises(UserError) as error:
        run(tmp_path, coco)
    assert "`drop_bad" not in str(error.value)
