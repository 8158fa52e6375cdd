"""What cannot be used is refused in one line, and what is left out is counted."""

import copy
import os
import shutil

import pytest
from PIL import Image
from prepare_files import OUTPUTS, read, run

from gol.data.preprocess import preprocess_dataset
from gol.errors import UserError


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


@pytest.mark.parametrize("coding", ["UTF-16", "UTF-16-LE", "UTF-32"])
def test_a_file_of_another_encoding_is_named_with_what_helps(coco, tmp_path, coding):
    run(tmp_path, coco)
    path = tmp_path / "raw_train.json"
    path.write_bytes(path.read_text().encode(coding))
    files = [path, tmp_path / "train", tmp_path / "raw_val.json", tmp_path / "val"]
    words = f"raw_train.json is {coding[:6]}, not a UTF-8 text: `iconv -f {coding[:6]} -t UTF-8`"
    with pytest.raises(UserError, match=words):
        preprocess_dataset(*files, tmp_path / "out")


def test_missing_image_folder(coco, tmp_path):
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(UserError, match=r"train, the image folder of .*json, does not exist"):
        run(tmp_path, coco)


def test_unwritable_folder(coco, tmp_path):
    (tmp_path / "out").write_text("a file")
    with pytest.raises(UserError, match="cannot write"):
        run(tmp_path, coco)


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
        "train: left out of training for a side under 32 px: 1 of 8 images, with",
        "train: 1 object under 1 px",
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


def test_drop_bad_is_advised_where_it_helps(coco, tmp_path):
    coco["val"]["annotations"][2]["bbox"] = [-2, 0, 20, 10]
    with pytest.raises(UserError, match=r"box outside .*; `drop_bad: true` in the dataset's file"):
        run(tmp_path, coco)
    coco["val"]["annotations"][3]["area"] = "wide"
    with pytest.raises(UserError) as error:
        run(tmp_path, coco)
    assert "`drop_bad" not in str(error.value)
