"""Hostile, damaged and foreign files: one line says what is wrong, and nothing is lost."""

import errno
import json
import os
import re
import shlex
import zipfile
from pathlib import Path

import pytest
import yaml
from export_files import WRITERS, ask, changes, coco, read_back

from gol.cli import main
from gol.data.imports.door import import_export
from gol.data.imports.repair import Answers
from gol.errors import UserError


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


def test_a_foreign_key_named_corners_is_not_trusted(truth, folder):
    data = coco(truth)
    data["annotations"][0] |= {"segmentation": [[]], "corners": "tl"}
    x, y, w, h = data["annotations"][0]["bbox"]
    ask(data, folder, answers=Answers(boxes="rectangles"))
    written = json.loads((folder.parent / "out/annotations.json").read_text())["annotations"]
    assert written[0]["segmentation"] == [[x, y, x + w, y, x + w, y + h, x, y + h]]


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
    out = tmp_path / "my: out"

    def follow(*words):
        assert main([*map(str, words)]) == 0
        return shlex.split(re.search("^next: (.*)$", capsys.readouterr().out, re.MULTILINE)[1])

    def named(command):
        return yaml.safe_load(Path(command[-1].removeprefix("dataset=")).read_text())

    split = follow("import", folder, "--out", out)
    assert split[:3] == ["gol", "split", str(out / "annotations.json")]
    found = named(follow(*split[1:]))
    for part in ("train", "val"):
        assert Path(found[part]["annotations"]).is_file()
        assert Path(found[part]["images"]) == folder
    (folder / "labels.json").unlink()
    WRITERS["coco, CVAT"](truth, folder)
    train = named(follow("import", folder, "--out", out))["train"]
    assert train["annotations"] == str(out / "train.json")
    truth["train/images/photo 0.png"]["split"] = "more"  # said by no file's name
    (folder / "annotations/more.json").write_text(json.dumps(coco(truth, "more")))
    assert main(["import", str(folder), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "annotations.json: 1 image in neither train nor val, not used\nnext: snakemake" in said


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
