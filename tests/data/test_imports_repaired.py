"""What gol import repairs in exports that real tools write, and what it says of the rest."""

import json

import pytest
from export_files import WRITERS, ask, changes, coco, read_back
from PIL import Image

from gol.data.imports.door import import_export
from gol.data.imports.repair import Answers
from gol.data.split import split_annotations
from gol.errors import UserError

TURNED, LABELLED = "image that was labelled as if it had no Exif orientation", "annotations.json"


def corners(data):
    for annotation in data["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]


def placeholder(data):
    data["annotations"][0]["bbox"] = [0, 0, 0, 0]


def other_case(data):
    data["images"][0]["file_name"] = data["images"][0]["file_name"].upper()


def address(data):
    for image in data["images"]:
        path = image["file_name"].replace("/", "%2F")
        image["file_name"] = f"/data/local-files/?d=mine%2F{path}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (corners, {"box written as two corners": 18}),
        (placeholder, {"missing box": 1}),
        (other_case, {"image file with letters of another case": 1}),
        (address, {}),
    ],
)
def test_what_can_mean_one_thing_only_is_read_as_that(change, said, truth, folder):
    data = coco(truth)
    change(data)
    assert changes(ask(data, folder)) == said
    found = read_back(folder.parent / "out")
    assert {n: i["objects"] for n, i in found.items()} == {
        n: i["objects"] for n, i in truth.items()
    }


@pytest.mark.parametrize("form", ["polygon", "rle"])
def test_a_mask_without_a_pixel_is_no_object_whatever_its_area_says(form, truth, folder):
    data = coco(truth)
    image, first = data["images"][0], data["annotations"][0]
    size = [image["height"], image["width"]]
    empty = {"size": size, "counts": [size[0] * size[1]]}
    first["segmentation"] = empty if form == "rle" else [[5, 5, 15, 5.1, 15, 5.2]]
    summary = ask(data, folder)
    assert summary["splits"][LABELLED]["objects"] == 17
    assert changes(summary)["object without an area"] == 1


def test_a_box_elsewhere_than_its_mask_is_kept_and_said(truth, folder):
    data = coco(truth)
    data["annotations"][0]["bbox"] = [0, 0, *data["annotations"][0]["bbox"][2:]]
    data["annotations"][0]["segmentation"] = [[30, 30, 45, 30, 45, 42]]
    assert changes(ask(data, folder)) == {"box that hardly overlaps its mask": 1}
    written = json.loads((folder.parent / "out" / LABELLED).read_text())
    assert written["annotations"][0]["bbox"] == data["annotations"][0]["bbox"]


def test_photos_that_were_labelled_lying_are_not_trained_upright(truth, folder):
    """Neither answer to a wrong size would put such labels where the objects are."""
    data = coco(truth)
    image = data["images"][0]
    path = folder / image["file_name"].replace(".png", ".jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / image["file_name"]).save(path, exif=exif)
    image["file_name"] = path.name
    with pytest.raises(UserError, match=f"1 x {TURNED}.*remove the orientation"):
        ask(data, folder)
    summary = ask(data, folder, drop_bad=True)
    assert summary["splits"][LABELLED]["images"] == 5  # not one without objects
    assert changes(summary)[TURNED] == 1
    image["width"], image["height"] = image["height"], image["width"]
    for annotation in data["annotations"]:
        if annotation["image_id"] == image["id"]:
            x, y = 2, 2
            annotation["segmentation"] = [[x, y, x + 9, y, x + 9, y + 9]]
            annotation["bbox"] = [x, y, 9, 9]
    assert not changes(ask(data, folder)).keys() & {TURNED, "image of another size"}


def test_names_that_differ_in_spelling_are_said_and_spaces_around_them_are_not_theirs(
    truth, folder, tmp_path
):
    WRITERS["labelme"](truth, folder)
    first, *_ = sorted(folder.rglob("*.json"))
    content = json.loads(first.read_text())
    for shape, name in zip(content["shapes"], ["Pear_Tree", "nut ", " nut"], strict=True):
        shape["label"] = name
    first.write_text(json.dumps(content))
    summary = import_export(folder, tmp_path / "out")
    assert summary["classes"] == 4
    assert "as 'pear tree' and 'Pear_Tree'" in summary["text"]


def test_lists_of_images_say_the_split_of_yolo(truth, folder, tmp_path):
    """As Ultralytics' and Darknet's train.txt; the folders say nothing."""
    WRITERS["yolo"](truth, folder)
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
        for path in [*folder.glob(f"*/{kind}/*")]:
            path.rename(folder / kind / path.name)
    names = sorted(path.name for path in (folder / "images").iterdir())
    for split, chosen in (("train", names[:4]), ("val", names[4:])):
        lines = [f"data/images/{name}\n" for name in chosen]
        (folder / f"autosplit_{split}.txt").write_text("".join(lines))
    text = (folder / "data.yaml").read_text()
    (folder / "data.yaml").write_text(text.replace("../", ""))
    summary = import_export(folder / "data.yaml", tmp_path / "out")
    assert [part["images"] for part in summary["splits"].values()] == [4, 2]
    assert not summary["changes"]
    text = (folder / "autosplit_val.txt").read_text()
    (folder / "autosplit_val.txt").write_text(f"{text}{names[0]}\ngone.jpg\n{names[1]}\n")
    (folder / "copy").mkdir()
    (folder / "copy" / names[1]).write_bytes((folder / "images" / names[1]).read_bytes())
    summary = import_export(folder / "data.yaml", tmp_path / "out")
    assert [part["images"] for part in summary["splits"].values()] == [3, 3]
    assert changes(summary) == {
        "image in the lists of several splits": 1,
        "line of a list that fits no image, or several": 2,
    }


@pytest.mark.parametrize("labelled", [True, False])
def test_settings_and_then_folders_say_the_split_of_yolo_before_lists(
    labelled, truth, folder, tmp_path
):
    WRITERS["yolo"](truth, folder)
    if not labelled:
        for path in folder.glob("*/labels/photo [23].txt"):
            path.unlink()
    val = sorted((folder / "val/images").iterdir())
    (folder / "train.txt").write_text("".join(f"val/images/{path.name}\n" for path in val))
    summary = import_export(folder, tmp_path / "out")
    assert [part["images"] for part in summary["splits"].values()] == [3, 3]
    said = "image in a list of another split than its folder or data.yaml"
    assert changes(summary)[said] == 3
    for split in ("train", "val"):  # names that say nothing
        (folder / split).rename(folder / f"{split[0]}1")
    settings = (folder / "data.yaml").read_text()
    for split in ("train", "val"):
        settings = settings.replace(f"../{split}/", f"../{split[0]}1/")
    (folder / "data.yaml").write_text(settings)
    (folder / "train.txt").write_text("".join(f"v1/images/{path.name}\n" for path in val))
    summary = import_export(folder, tmp_path / "out")
    assert [part["images"] for part in summary["splits"].values()] == [3, 3]
    assert changes(summary)[said] == 3


def test_files_of_coco_s_other_tasks_are_left_out(truth, folder, tmp_path):
    WRITERS["coco, CVAT"](truth, folder)
    labels = folder / "annotations/instances_train.json"
    data = json.loads(labels.read_text())
    data["annotations"] = [{"image_id": 1, "file_name": "1.png", "segments_info": [{"id": 1}]}]
    labels.with_name("panoptic_train.json").write_text(json.dumps(data))
    summary = import_export(folder, tmp_path / "out")
    assert changes(summary) == {"file that holds no labels of the format": 1}


def test_another_format_than_was_said_is_named(truth, folder, tmp_path):
    WRITERS["via"](truth, folder)
    with pytest.raises(UserError, match=r"no labels of the format yolo, but of via \(2 files\)"):
        import_export(folder, tmp_path / "out", form="yolo")
    for path in folder.glob("*.json"):
        path.rename(path.with_suffix(".zip"))
    with pytest.raises(UserError, match=r"no labels of the formats.*: unpack via_train\.zip, via_"):
        import_export(folder, tmp_path / "out")
    (folder / "via.csv").write_text("filename,file_size\n")
    with pytest.raises(UserError, match=r"is a text file, not a folder.*: export one of these"):
        import_export(folder / "via.csv", tmp_path / "out")
    WRITERS["voc"](truth, folder)
    with pytest.raises(UserError, match=r"--class-key names an attribute of via; .* is of voc"):
        import_export(folder, tmp_path / "out", answers=Answers(class_key="fruit"))


def test_an_image_that_was_left_out_is_not_one_without_labels(truth, folder, tmp_path):
    WRITERS["labelme"](truth, folder)
    next(folder.rglob("*.png")).write_bytes(b"no image")
    found = changes(import_export(folder, tmp_path / "out", drop_bad=True))
    del found["file name with backslashes"]
    assert found == {"unreadable image file": 1, "object of an image that is left out": 3}


def test_one_picture_under_two_names_is_said_and_stays_on_one_side(truth, folder):
    data = coco(truth)
    for number in range(20):
        image = data["images"][number % 6]
        name = f"copy {number}.png"
        (folder / name).write_bytes((folder / image["file_name"]).read_bytes())
        data["images"].append({**image, "id": 100 + number, "file_name": name})
    summary = ask(data, folder)
    assert changes(summary) == {"image with the same content as another": 20}
    split_annotations(folder.parent / "out" / LABELLED, folder.parent / "divided", share=0.4)
    sides = []
    for split in ("train", "val"):
        images = json.loads((folder.parent / f"divided/{split}.json").read_text())["images"]
        sides.append({(folder / image["file_name"]).read_bytes() for image in images})
    assert len(sides[0]) + len(sides[1]) == 6 and not sides[0] & sides[1]


def test_a_picture_of_both_splits_is_said_whatever_it_is_called(truth, folder, tmp_path):
    WRITERS["coco, CVAT"](truth, folder)
    first, second = (sorted((folder / split / "images").iterdir())[0] for split in ("train", "val"))
    labels = folder / "annotations/instances_val.json"
    data = json.loads(labels.read_text())
    data["images"][0] |= {"width": 60, "height": 50}
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != 1]
    labels.write_text(json.dumps(data))
    second.write_bytes(first.read_bytes())
    summary = import_export(folder, tmp_path / "out")
    assert "photo 0.png is in train.json and as val/images/photo 1.png in val" in summary["text"]
