"""Any data set comes out in one schema that mmdet, lvis-api and hotcoco read; or not at all."""

import hashlib
import json
import os
import shutil

import hotcoco
import pytest
from coco_files import blank_images, to_mask
from prepare_files import OUTPUTS, read, run
from seeds import fresh_seed

from gol import compat
from gol.data import preprocess
from gol.data.demo.draw import draw_demo
from gol.data.prepared import raw_digests
from gol.data.preprocess import preprocess_dataset
from gol.losses.class_statistics import ClassStatistics


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
