"""A dataset file names exports; they are imported, divided where nothing says val, and prepared."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from export_files import WRITERS, draw_truth

from gol.cli import main
from gol.config.axes import axis_values
from gol.config.datasets import load_dataset
from gol.errors import UserError

FORMATS = ("labelme", "coco, Roboflow")


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes an export of a form, and a dataset file that names it."""
    monkeypatch.chdir(tmp_path)
    own = axis_values("dataset")["own"]

    def write_dataset(form, **keys):
        WRITERS[form](draw_truth(np.random.default_rng(7), tmp_path / "export"), Path("export"))
        values = {**own, "format": "auto", "train": {"annotations": "export"}, **keys}
        values = {key: value for key, value in values.items() if value is not None}
        Path("mine.yaml").write_text(yaml.safe_dump(values))

    return write_dataset


def prepare():
    assert main(["import", "--dataset", "mine.yaml", "--out", "data/imported"]) == 0
    assert main(["preprocess", "--dataset", "mine.yaml", "--out", "data"]) == 0
    return {s: json.loads(Path(f"data/{s}.json").read_text()) for s in ("train", "val")}


@pytest.mark.parametrize("form", FORMATS)
def test_one_export_becomes_train_and_val(form, write, capsys):
    write(form, val=None)
    assert main(["preprocess", "--dataset", "mine.yaml", "--out", "data"]) == 2
    assert "`gol import --dataset mine.yaml --out data/imported`" in capsys.readouterr().err
    before = prepare()
    names = {s: {image["file_name"] for image in before[s]["images"]} for s in before}
    assert names["train"] and names["val"] and not names["train"] & names["val"]
    assert before == prepare()  # again, over what is there


def test_classes_of_val_s_export_are_matched_by_name(write):
    write("coco, Roboflow", val={"annotations": "other"})
    shutil.copytree("export", "other")
    for path in Path("other").rglob("*.json"):
        data = json.loads(path.read_text())
        for entry, key in [(c, "id") for c in data["categories"]] + [
            (a, "category_id") for a in data["annotations"]
        ]:
            entry[key] += 70
        path.write_text(json.dumps(data))
    found = prepare()
    assert found["train"]["categories"] == found["val"]["categories"]
    assert max(category["id"] for category in found["val"]["categories"]) < 70


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": "coko"}, "unknown format 'coko'; did you mean 'coco'"),
        ({"crowd": "yes"}, "unknown crowd 'yes'; allowed: objects, regions"),
        ({"split": {"part": 0.2}}, "unknown key 'part' in split; allowed: share, seed, by"),
        ({"split": {"share": 0}}, r"key 'split.share' must be (above|greater)"),
        ({"format": None, "boxes": "drop"}, r"key 'boxes' needs the key 'format' \(auto, coco"),
        ({"format": None}, r"'train.images' is missing; an export alone needs the key 'format'"),
    ],
)
def test_wrong_keys_are_one_line(change, words, write):
    write("labelme", **change)
    with pytest.raises(UserError, match=words):
        load_dataset("mine.yaml")


def test_options_are_keys_and_a_division_that_is_not_asked_for_is_said(write, capsys):
    write("coco, Roboflow", val=None, split={"share": 0.3})
    prepare()
    said = capsys.readouterr()
    assert "the key 'split' is not used" in said.out and "next:" not in said.out
    for path in Path("export").rglob("*.json"):
        data = json.loads(path.read_text())
        for annotation in data["annotations"]:
            annotation["iscrowd"] = 1
        path.write_text(json.dumps(data))
    assert main(["import", "--dataset", "mine.yaml", "--out", "other"]) == 2
    error = capsys.readouterr().err
    assert "`crowd: objects` takes them as objects" in error and "--crowd" not in error


def test_a_dataset_without_exports_imports_nothing(capsys):
    assert main(["import", "--dataset", "demo", "--out", "x"]) == 2
    assert "no key 'format'" in capsys.readouterr().err
