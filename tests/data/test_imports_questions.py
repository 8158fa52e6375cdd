"""gol import asks where two meanings are possible, and does what it is told."""

import json
import shutil

import pytest
from export_files import WRITERS, ask, changes, coco, read_back

from gol.data.imports.door import import_export
from gol.data.imports.repair import Answers
from gol.errors import UserError


def test_crowds_alone_are_a_question(truth, folder):
    data = coco(truth)
    for annotation in data["annotations"]:
        annotation["iscrowd"] = 1
    with pytest.raises(UserError, match=r"18 x all annotations are crowd.*--crowd objects"):
        ask(data, folder)
    assert not (folder.parent / "out/annotations.json").exists()
    ask(data, folder, answers=Answers(crowd="objects"))
    assert read_back(folder.parent / "out").keys() == truth.keys()
    data["annotations"][0]["iscrowd"] = 0
    summary = ask(data, folder)
    assert summary["splits"]["annotations.json"]["crowds"] == 17
    assert changes(summary) == {"crowd region (iscrowd)": 17}


def test_boxes_without_masks_are_a_question(truth, folder):
    data = coco(truth)
    for annotation in data["annotations"][:5]:
        annotation["segmentation"] = []
    with pytest.raises(UserError, match=r"5 x boxes without masks.*--boxes rectangles"):
        ask(data, folder)
    ask(data, folder, answers=Answers(boxes="rectangles"))
    written = json.loads((folder.parent / "out/annotations.json").read_text())["annotations"]
    x, y, w, h = written[0]["bbox"]
    assert written[0]["segmentation"] == [[x, y, x + w, y, x + w, y + h, x, y + h]]
    summary = ask(data, folder, answers=Answers(boxes="drop"))
    assert summary["splits"]["annotations.json"]["objects"] == 13


def test_wrong_sizes_are_a_question(truth, folder):
    data = coco(truth)
    image = data["images"][0]
    width, height = image["width"], image["height"]
    image |= {"width": 2 * width, "height": 2 * height}
    with pytest.raises(UserError, match=r"1 x image of another size .*is 60 x 50, not 120 x 100"):
        ask(data, folder)
    ask(data, folder, answers=Answers(sizes="file"))
    assert read_back(folder.parent / "out")[image["file_name"]]["size"] == (width, height)
    ask(data, folder, answers=Answers(sizes="scale"))
    written = json.loads((folder.parent / "out/annotations.json").read_text())["annotations"]
    half = [value / 2 for value in data["annotations"][0]["segmentation"][0]]
    assert written[0]["segmentation"] == [half]
    assert written[0]["bbox"] == [value / 2 for value in data["annotations"][0]["bbox"]]


def test_what_lies_outside_is_clipped_up_to_a_hundredth_and_refused_beyond(truth, folder):
    data = coco(truth)
    first, second = data["annotations"][:2]
    x, y, w, h = first["bbox"]
    first |= {"segmentation": [[-2, y, x + w, y, x + w, y + h]], "bbox": [-2, y, x + w + 2, h]}
    summary = ask(data, folder)
    assert changes(summary) == {"box or mask up to 1 % or 2 px outside the image": 1}
    written = json.loads((folder.parent / "out/annotations.json").read_text())["annotations"]
    assert written[0]["segmentation"][0][0] == 0 and written[0]["bbox"] == [0, y, x + w, h]
    second["bbox"] = [-3, 0, 20, 20]
    with pytest.raises(UserError, match=r"1 x box or mask outside.*annotation 2.*--drop-bad"):
        ask(data, folder)
    summary = ask(data, folder, drop_bad=True)
    assert summary["splits"]["annotations.json"]["objects"] == 17


def test_two_formats_are_a_question_and_two_files_of_one_split_are_joined(truth, folder):
    WRITERS["labelme"](truth, folder)
    WRITERS["via"](truth, folder)
    with pytest.raises(UserError, match=r"labelme \(6 files\), via \(2 files\): say --format"):
        import_export(folder, folder.parent / "out")
    import_export(folder, folder.parent / "out", "via")
    with pytest.raises(UserError, match=r"unknown format 'voca'.*did you mean 'voc'"):
        import_export(folder, folder.parent / "out", "voca")
    for path in folder.glob("via_*.json"):
        shutil.copy(path, folder / f"second_{path.name}")
    summary = import_export(folder, folder.parent / "out", "via")
    assert changes(summary)["image entries that were there twice"] == 6
    assert len(read_back(folder.parent / "out")) == 6
    assert changes(summary)["object of such an image that was there twice"] == 18
    assert read_back(folder.parent / "out") == truth


def test_an_image_in_both_splits_is_said(truth, folder):
    for split in ("train", "val"):
        data = coco(truth, "train")
        for image in data["images"]:
            image["file_name"] = image["file_name"].replace("train/", "all/")
        (folder / f"{split}.json").write_text(json.dumps(data))
    (folder / "train").rename(folder / "all")
    summary = import_export(folder, folder.parent / "out")
    assert changes(summary) == {"image in more than one split": 3}


def test_objects_of_images_that_are_left_out_are_counted(truth, folder):
    data = coco(truth)
    data["images"][0]["file_name"] = "gone.png"
    said = changes(ask(data, folder, drop_bad=True))
    assert said == {
        "missing image file": 1,
        "object of an image that is left out": 3,
        "image that no label mentions": 1,
    }


def test_a_split_whose_images_are_all_gone_is_not_written(truth, folder, tmp_path):
    WRITERS["coco, CVAT"](truth, folder)
    shutil.rmtree(folder / "train/images")
    import_export(folder, tmp_path / "out", drop_bad=True)
    assert not (tmp_path / "out/train.json").exists() and len(read_back(tmp_path / "out")) == 3


def test_only_images_named_twice_are_compared_and_their_lists_joined(truth, folder):
    data = coco(truth)
    again = data["images"][0] | {"id": 77, "neg_category_ids": [3], "video_id": 1}
    data["images"][0] |= {"neg_category_ids": [1], "not_exhaustive_category_ids": None}
    again["not_exhaustive_category_ids"] = [2]
    data["images"].append(again)
    data["annotations"].append(data["annotations"][0] | {"id": 77, "image_id": 77})
    data["annotations"].append(data["annotations"][-2] | {"id": 78})  # two equal ones of one image
    said = changes(ask(data, folder))
    assert said["object of such an image that was there twice"] == 1
    written = json.loads((folder.parent / "out/annotations.json").read_text())
    assert written["images"][0]["neg_category_ids"] == [1, 3] and len(written["images"]) == 6
    assert written["images"][0]["not_exhaustive_category_ids"] == [2]
    assert 78 in [annotation["id"] for annotation in written["annotations"]]
