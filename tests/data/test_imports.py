"""gol import: exports of labelling tools are read without loss, and what is changed is said."""

import json
import shutil

import pytest
from export_files import WRITERS, ask, changes, coco, read_back

from gol.cli import main
from gol.data.imports.door import import_export
from gol.errors import UserError


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


def test_yolo_numbers_of_classes_with_a_gap_are_kept(truth, folder, tmp_path):
    WRITERS["yolo"](truth, folder)
    path = folder / "data.yaml"
    path.write_text(path.read_text().replace("0: apple", "3: kiwi"))
    with pytest.raises(UserError, match=r"malformed label.*class 0 of 3"):
        import_export(folder, tmp_path / "out")
    import_export(folder, tmp_path / "out", drop_bad=True)
    for name, image in read_back(tmp_path / "out").items():
        assert image["objects"] == [o for o in truth[name]["objects"] if o[0] != "apple"]


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
