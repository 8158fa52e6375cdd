"""gol import: exports of labelling tools are read without loss, and what is changed is said."""

import errno
import json
import os
import shlex
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from coco_files import to_mask
from export_files import WRITERS, boxes_around, coco, draw_truth

from gol.cli import main
from gol.data.imports.door import import_export
from gol.data.imports.repair import Answers
from gol.errors import UserError


@pytest.fixture(scope="module")
def drawn(made_once):
    """The folder of the drawn images; to be read only."""
    return made_once("exports", lambda folder: draw_truth(np.random.default_rng(7), folder))


@pytest.fixture
def truth(drawn, tmp_path):
    """Images in tmp_path/export, and what is on them."""
    shutil.copytree(drawn, tmp_path / "export")
    return draw_truth(np.random.default_rng(7), tmp_path / "again")


@pytest.fixture
def folder(tmp_path, truth):
    return tmp_path / "export"


def read_back(out):
    """What was written, in the form of the truth; a split is None where nothing says it."""
    found = {}
    for path in sorted(out.glob("*.json")):
        if path.stem not in ("train", "val", "annotations"):
            continue
        data = json.loads(path.read_text())
        names = {category["id"]: category["name"] for category in data["categories"]}
        split = None if path.stem == "annotations" else path.stem
        for image in data["images"]:
            mine = [a for a in data["annotations"] if a["image_id"] == image["id"]]
            for a in mine:
                x0, y0, x1, y1 = boxes_around(a["segmentation"])
                assert a["bbox"] == [x0, y0, x1 - x0, y1 - y0] and a["iscrowd"] == 0
                mask = to_mask(a["segmentation"], image["height"], image["width"])
                assert a["area"] == mask.sum()
            found[image["file_name"]] = {
                "split": split,
                "size": (image["width"], image["height"]),
                "objects": [(names[a["category_id"]], a["segmentation"]) for a in mine],
            }
    return found


def changes(summary):
    return {change["kind"]: change["count"] for change in summary["changes"]}


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_is_recognised_and_read_back_equal(name, truth, folder, tmp_path):
    WRITERS[name](truth, folder)
    summary = import_export(folder, tmp_path / "out")
    assert summary["format"] == name.split(",")[0]
    if name in ("coco, Label Studio", "coco, FiftyOne"):  # one file for all
        truth = {key: image | {"split": None} for key, image in truth.items()}
    assert read_back(tmp_path / "out") == truth


EXPECTED = {
    "coco, Roboflow": {"root category without objects": 2},
    "coco, CVAT": {},
    "coco, Label Studio": {"file name with backslashes": 6},
    "coco, FiftyOne": {
        "NaN or infinity in a field that nobody reads": 6,
        "image ids that were no whole numbers": 6,
    },
    "coco, Datumaro": {
        "missing image size": 6,
        "missing box": 18,
        "missing area": 18,
        "flag written as a text": 18,
        "id or size written as text or with a decimal point": 18,
        "annotation ids that were missing or repeated": 18,
    },
    "labelme": {"file name with backslashes": 6},
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_repair_is_counted(name, truth, folder, tmp_path, capsys):
    WRITERS[name](truth, folder)
    assert main(["import", str(folder), "--out", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    summary = json.loads((tmp_path / "out/import.json").read_text())
    assert changes(summary) == EXPECTED.get(name, {})
    assert all(f"{n} x {kind}" in printed for kind, n in changes(summary).items())


def test_a_zip_is_unpacked_beside_the_output_and_its_images_are_found(truth, folder, tmp_path):
    WRITERS["yolo"](truth, folder)
    archive = shutil.make_archive(str(tmp_path / "export of today"), "zip", folder)
    for _ in range(2):  # the second time it is there
        summary = import_export(archive, tmp_path / "out")
        assert read_back(tmp_path / "out") == truth
    assert str(tmp_path / "out") in summary["images"]


def test_a_hostile_zip_writes_nothing_outside(truth, folder, tmp_path):
    for name in ("../evil.json", "/evil.json"):
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            archive.writestr(name, "{}")
        with pytest.raises(UserError, match="evil"):
            import_export(tmp_path / "bad.zip", tmp_path / "out")
        assert not (tmp_path / "evil.json").exists()


def test_entities_in_xml_are_refused(truth, folder, tmp_path):
    text = '<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><annotations>&b;</annotations>'
    (folder / "bad.xml").write_text(text)
    with pytest.raises(UserError, match="DOCTYPE"):
        import_export(folder, tmp_path / "out")


def ask(data, folder, **options):
    (folder / "labels.json").write_text(json.dumps(data))
    return import_export(folder, folder.parent / "out", **options)


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


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda d: d["images"][0].update(file_name="gone.png"), "missing image file.*--images"),
        (lambda d: d["annotations"][0].update(image_id=99), "annotation of an unknown image"),
        (lambda d: d["annotations"][0].update(category_id="x"), "annotation of an unknown class"),
        (lambda d: d["annotations"][0].update(iscrowd=7), "iscrowd or ignore is neither"),
        (lambda d: d["annotations"][0].update(segmentation=[[1, float("nan")] * 3]), "malformed"),
        (lambda d: d["annotations"][0].update(segmentation={"counts": "!"}), "malformed mask"),
        (lambda d: d["categories"][0].update(name=""), "has no name"),
        (lambda d: d["categories"][0].update(name="\ud800"), "a name that is not UTF-8"),
        (lambda d: d["categories"][0].update(name="nut"), "not the only 'nut' with objects"),
        (lambda d: d["categories"][0].update(id=2), "is both 'apple' and 'nut'"),
        (lambda d: d["images"][0].update(id=2), "have the same id 2"),
        (lambda d: (d["images"][0].pop("id"), d["annotations"][0].pop("image_id")), "has no id"),
        (lambda d: d["categories"][0].pop("id"), "category 'apple' has no id"),
        (lambda d: d.update(annotations={}), "annotations is no list"),
        (
            lambda d: d["annotations"][0].update(bbox=[17 * 10**307] * 4, segmentation=[]),
            "has bbox",
        ),
        (lambda d: d.update(images=[]), "unknown image"),
        (lambda d: d.update(annotations=[]), "no object is left"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(change, match, truth, folder):
    data = coco(truth)
    change(data)
    with pytest.raises(UserError, match=match):
        ask(data, folder)
    assert not (folder.parent / "out").exists()


def test_ids_of_62_bits_and_foreign_keys_survive(truth, folder):
    data = coco(truth)
    big = 2**62 + 3
    for entry in (*data["images"], *data["annotations"]):
        key = "image_id" if "image_id" in entry else "id"
        entry[key] = str(entry[key] + big)
    data["images"][0]["video_id"] = {"a": [1]}
    ask(data, folder)
    written = json.loads((folder.parent / "out/annotations.json").read_text())
    assert [image["id"] for image in written["images"]] == [big + i for i in range(1, 7)]
    assert written["images"][0]["video_id"] == {"a": [1]}
    assert len(read_back(folder.parent / "out")["val/images/photo 1.png"]["objects"]) == 3


def test_files_of_the_same_name_are_told_apart_by_their_split(truth, folder):
    for split in ("train", "val"):
        data = coco(truth, split)
        for number, image in enumerate(data["images"]):
            old = folder / image["file_name"]
            image["file_name"] = f"{number}.png"
            old.rename(folder / split / "images" / image["file_name"])
        (folder / f"{split}.json").write_text(json.dumps(data))
    import_export(folder, folder.parent / "out")
    found = read_back(folder.parent / "out")
    assert [image["objects"] for image in found.values()] == [
        image["objects"]
        for split in ("train", "val")
        for image in truth.values()
        if image["split"] == split
    ]
    (folder / "train/images/0.png").unlink()  # val's is not taken in its place
    with pytest.raises(UserError, match="1 x missing image file"):
        import_export(folder, folder.parent / "out")


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


def test_a_label_file_that_cannot_be_read_is_not_passed_over(truth, folder):
    WRITERS["coco, CVAT"](truth, folder)
    path = folder / "annotations/instances_val.json"
    path.write_text(path.read_text()[:-9])
    with pytest.raises(UserError, match=r"1 x unreadable label file .*instances_val"):
        import_export(folder, folder.parent / "out")
    path.write_bytes(json.dumps(coco(truth, "val")).encode("utf-16"))
    import_export(folder, folder.parent / "out")
    assert read_back(folder.parent / "out") == truth


def spoil(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "path", "change", "match"),
    [
        ("labelme", "train/images/photo 0.json", lambda d: d.update(shapes=None), "no list of sha"),
        ("labelme", "train/images/photo 0.json", lambda d: d.pop("shapes"), "no list of shapes"),
        (
            "via",
            "via_val.json",
            lambda d: d["_via_img_metadata"]["val/images/photo 1.png1"].update(regions=5),
            "image 0 has no name or regions",
        ),
        (
            "via",
            "via_val.json",
            lambda d: d["_via_img_metadata"].update(x=3),
            "image 3 has no name",
        ),
    ],
)
def test_one_wrong_entry_hides_no_label_file(name, path, change, match, truth, folder, tmp_path):
    WRITERS[name](truth, folder)
    spoil(folder / path, change)
    with pytest.raises(UserError, match=f"1 x malformed label .*{match}"):
        import_export(folder, tmp_path / "out")
    summary = import_export(folder, tmp_path / "out", drop_bad=True)
    assert changes(summary)["malformed label"] == 1


@pytest.mark.parametrize("line", ["0 0.1 0.2 0.3", "0 0.1 0.2 0.3 0.", "x"])
def test_a_truncated_line_makes_no_photo_a_negative(line, truth, folder, tmp_path):
    WRITERS["yolo"](truth, folder)
    path = folder / "val/labels/photo 1.txt"
    path.write_text(path.read_text() + f"\n{line} a")
    (folder / "val/labels/NOTES.TXT").write_text("about it")
    (folder / "train/labels/photo 0.txt").write_text(line + " a")  # the only line
    with pytest.raises(UserError, match="2 x malformed label"):
        import_export(folder, tmp_path / "out")
    said = changes(import_export(folder, tmp_path / "out", drop_bad=True))
    assert said == {"malformed label": 2, "file that holds no labels of the format": 1}
    assert len(read_back(tmp_path / "out")["val/images/photo 1.png"]["objects"]) == 3


def test_yolo_numbers_of_classes_with_a_gap_are_kept(truth, folder, tmp_path):
    WRITERS["yolo"](truth, folder)
    path = folder / "data.yaml"
    path.write_text(path.read_text().replace("0: apple", "3: kiwi"))
    with pytest.raises(UserError, match=r"malformed label.*class 0 of 3"):
        import_export(folder, tmp_path / "out")
    import_export(folder, tmp_path / "out", drop_bad=True)
    for name, image in read_back(tmp_path / "out").items():
        assert image["objects"] == [o for o in truth[name]["objects"] if o[0] != "apple"]


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


def test_a_foreign_key_named_corners_is_not_trusted(truth, folder):
    data = coco(truth)
    data["annotations"][0] |= {"segmentation": [[]], "corners": "tl"}
    x, y, w, h = data["annotations"][0]["bbox"]
    ask(data, folder, answers=Answers(boxes="rectangles"))
    written = json.loads((folder.parent / "out/annotations.json").read_text())["annotations"]
    assert written[0]["segmentation"] == [[x, y, x + w, y, x + w, y + h, x, y + h]]


def test_points_that_are_no_polygon_of_their_own_are_joined(truth, folder):
    data = coco(truth)
    (flat,) = data["annotations"][0]["segmentation"]
    data["annotations"][0]["segmentation"] = [flat[i : i + 2] for i in range(0, len(flat), 2)]
    assert changes(ask(data, folder)) == {"polygon that was not in a list": 1}
    assert read_back(folder.parent / "out") == {k: i | {"split": None} for k, i in truth.items()}


def test_names_of_images_fit_as_they_are_before_they_fit_without_suffix(truth, folder):
    data = coco(truth)
    first, second, third = (folder / image["file_name"] for image in data["images"][:3])
    first.rename(first.with_name("photo 0.jpg"))  # in truth another file
    data["images"][1]["file_name"] = "cafe\u0301.png"  # as macOS writes it
    second.rename(second.with_name("caf\u00e9.png"))
    shutil.copy(third, third.with_name(f"{third.name}.png"))
    said = changes(ask(data, folder))
    assert said["image file with another suffix than its name in the labels"] == 1
    names = read_back(folder.parent / "out").keys()
    assert {"train/images/photo 0.jpg", "val/images/caf\u00e9.png"} <= names
    assert data["images"][2]["file_name"] in names


def test_text_where_an_object_was_is_not_passed_over(truth, folder, tmp_path):
    WRITERS["cvat"](truth, folder)
    path = folder / "val.xml"
    path.write_text(path.read_text().replace("<polygon", "polygon", 1))
    with pytest.raises(UserError, match=r"1 x unreadable label file .*text between"):
        import_export(folder, tmp_path / "out")


def test_other_archives_are_named(tmp_path):
    for name, beginning, what in (
        ("a.tar.gz", b"\x1f\x8b\x08", "compressed by gzip"),
        ("a.7z", b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        ("a.rar", b"Rar!\x1a\x07", "a RAR archive"),
    ):
        (tmp_path / name).write_bytes(beginning)
        with pytest.raises(UserError, match=f"is {what}, not a folder, a zip .*unpack it first"):
            import_export(tmp_path / name, tmp_path / "out")


def test_images_of_many_megapixels_are_read(truth, folder, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    ask(coco(truth), folder)


def test_a_full_disk_leaves_the_files_of_the_run_before(truth, folder, tmp_path, monkeypatch):
    WRITERS["coco, CVAT"](truth, folder)
    import_export(folder, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert ".train.json.sha256" in before
    spoil(folder / "annotations/instances_train.json", lambda d: d["annotations"].pop())
    real = os.fsync
    calls = iter([None, OSError(errno.ENOSPC, "No space left on device")])

    def full(file):
        if error := next(calls):
            raise error
        real(file)

    monkeypatch.setattr("gol.files.os.fsync", full)
    with pytest.raises(UserError, match="No space left"):
        import_export(folder, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_paths_are_printed_so_that_they_can_be_pasted(truth, folder, tmp_path, capsys):
    ask(coco(truth), folder)
    text = import_export(folder, tmp_path / "my: out")["text"]
    split = shlex.split(text.splitlines()[-1])[2:]
    assert split[1] == str(tmp_path / "my: out/annotations.json")
    assert main(split) == 0  # and the dataset file's lines from there name the images
    for line in capsys.readouterr().out.splitlines()[-2:]:
        (keys,) = yaml.safe_load(line).values()
        assert Path(keys["annotations"]).is_file()
        assert Path(keys["images"]) == folder
    (folder / "labels.json").unlink()
    WRITERS["coco, CVAT"](truth, folder)
    train = import_export(folder, tmp_path / "my: out")["text"].splitlines()[-2]
    assert yaml.safe_load(train)["train"]["annotations"] == str(tmp_path / "my: out/train.json")


def test_own_files_are_not_written_over(truth, folder):
    WRITERS["coco, CVAT"](truth, folder)
    (folder.parent / "out").mkdir()
    (folder.parent / "out/train.json").write_text("mine")
    with pytest.raises(UserError, match=r"has a train\.json that `gol import` did not write"):
        import_export(folder, folder.parent / "out")
    assert (folder.parent / "out/train.json").read_text() == "mine"
    (folder / "annotations/instances_train.json").rename(folder / "train.json")
    for source in (folder, folder / "train.json"):
        with pytest.raises(UserError, match="is or has the export itself"):
            import_export(source, folder)


def test_what_is_imported_can_be_preprocessed(truth, folder, tmp_path, monkeypatch):
    WRITERS["cvat"](truth, folder)
    import_export(folder, tmp_path / "out")
    splits = {s: {"annotations": f"out/{s}.json", "images": "export"} for s in ("train", "val")}
    settings = {
        "source": "files",
        "image_scales": [[96, 96]],
        "normalize": {"mean": [127.5] * 3, "std": [60.0] * 3, "to_rgb": True},
        "pad": 32,
        "repeat_threshold": 0.05,
        "rare_frequency": 0.09,
    }
    (tmp_path / "mine.yaml").write_text(json.dumps(settings | splits))  # JSON is YAML
    monkeypatch.chdir(tmp_path)
    assert main(["preprocess", "--dataset", "mine.yaml", "--out", "ready"]) == 0
    written = json.loads((tmp_path / "ready/train.json").read_text())
    assert len(written["annotations"]) == 9
    summary = json.loads((tmp_path / "ready/summary.json").read_text())
    assert not summary["train"]["problems"] and not summary["val"]["problems"]


@pytest.mark.parametrize(
    ("number", "objects", "said"),
    [
        ("01", (31, 19), {"root category without objects": 2}),
        ("05", (31, 19), {"file name with backslashes": 22}),
        (
            "06",
            (31, 19),
            {"classes with another id in this split": 3, "missing image size": 14},
        ),
        (  # with a second file of the same val split
            "08",
            (21, 13),
            {
                "image entries that were there twice": 8,
                "object of such an image that was there twice": 19,
                "file that holds no labels of the format": 3,
            },
        ),
        ("09", (31, 19), {"NaN or infinity in a field that nobody reads": 1}),
        ("10", (31, 19), {}),
        ("18", (81, 26), {}),
        ("23", (31, 19), {"annotation ids that were missing or repeated": 50}),
        ("24", (7, 4), {"crowd region (iscrowd)": 39}),
        ("26", (31, 19), {"missing box": 50, "missing area": 50}),
        ("29", (31, 19), {"id or size written as text or with a decimal point": 22}),
        ("30", (31, 19), {"box or mask up to 1 % or 2 px outside the image": 1}),
        ("39", (33, 19), {}),
    ],
)
def test_exports_that_once_failed(number, objects, said, shared_data, tmp_path):
    found = next((shared_data / "cases").glob(f"{number}-*"), None)
    if found is None:
        pytest.skip(f"no case {number} in the test data")
    summary = import_export(found, tmp_path / "out")
    splits = summary["splits"]
    assert (splits["train.json"]["objects"], splits["val.json"]["objects"]) == objects
    assert changes(summary) == said


def test_real_photos_in_the_lvis_schema_stay_what_they_are(shared_data, tmp_path):
    summary = import_export(shared_data / "minicoco_lt", tmp_path / "out")
    assert not summary["changes"] and summary["classes"] == 80
    before = json.loads((shared_data / "minicoco_lt/minicoco_lt_val.json").read_text())
    after = json.loads((tmp_path / "out/val.json").read_text())
    keys = ("id", "image_id", "category_id", "bbox", "area", "segmentation")
    for old, new in zip(before["annotations"], after["annotations"], strict=True):
        assert {key: new[key] for key in keys} == {key: old[key] for key in keys}
    lists = ("id", "neg_category_ids", "not_exhaustive_category_ids")
    for old, new in zip(before["images"], after["images"], strict=True):
        assert {key: new[key] for key in lists} == {key: old[key] for key in lists}
