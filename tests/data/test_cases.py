"""Exports of real tools that once failed (the folder ``cases`` of the test data)."""

import json
import os
from pathlib import Path

import hotcoco
import pytest
from lvis_oracle import lvis_api

from gol.cli import main
from gol.data.store import AnnotationStore
from gol.evaluation.lvis import evaluate


@pytest.fixture
def case(shared_data, tmp_path, monkeypatch):
    """Links the files of a case into an empty working folder."""

    def open_case(number: str) -> Path:
        found = next((shared_data / "cases").glob(f"{number}-*"), None)
        if found is None:
            pytest.skip(f"no case {number} in the test data")
        for path in found.iterdir():
            os.symlink(path, tmp_path / path.name)
        monkeypatch.chdir(tmp_path)
        return tmp_path

    return open_case


def _prepare(folder):
    assert main(["preprocess", "--dataset", "ds.yaml", "--out", "out"]) == 0
    return {
        name: json.loads((folder / f"out/{name}.json").read_text()) for name in ("train", "val")
    }


@pytest.mark.parametrize("number", ["05", "09", "18", "24", "36"])
def test_an_export_that_is_fine_is_prepared_and_scored(case, number, capsys):
    folder = case(number)
    val = _prepare(folder)["val"]
    assert main(["evaluate", "out/val.json", _perfect(folder, val), "--out", "s.json"]) == 0
    assert json.loads((folder / "s.json").read_text())["segm"]["AP"] == pytest.approx(1)
    if number == "24":
        assert "val: 15 crowd regions" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("number", "words"),
    [
        ("01", "1 x duplicate category name ('lego' is categories[1] too)"),
        ("06", "train.json: 14 x missing or wrong key (images[0] has no width); all problems"),
        ("19", "cannot read this GIF: save it as JPEG or PNG"),
        ("21", "training does not turn a WEBP as its Exif orientation 6 says: save it upright"),
        ("23", "28 x duplicate annotation id"),
        ("26", "no object to train on: left out were 31 x missing or wrong key"),
        ("29", "train.json: 14 x missing or wrong key (images[0] has width 96.0); val.json: 8 x"),
    ],
)
def test_an_export_that_is_not_is_refused_in_one_line(case, number, words, capsys):
    folder = case(number)
    assert main(["preprocess", "--dataset", "ds.yaml", "--out", "out"]) == 2
    error = capsys.readouterr().err
    assert words in error and error.count("error:") == 1
    assert not (folder / "out").exists() or os.listdir(folder / "out") == ["problems.json"]


def test_ignored_objects_are_not_trained_on_and_not_counted(case):
    folder = case("08")
    train = _prepare(folder)["train"]
    assert sum(not a.get("ignore") for a in train["annotations"]) == 21
    classes = json.loads((folder / "out/classes.json").read_text())
    assert sum(classes["instance_counts"]) == 21
    store = AnnotationStore.open(folder / "out/train.store")
    flags = [a["ignore"] for i in range(len(store)) for a in store.annotations(i)]
    assert len(flags) == 31 and sum(flags) == 10
    result = evaluate(folder / "out/val.json", folder / "d.json")
    assert result["segm"]["AP"] == pytest.approx(0.41893872079515637, abs=1e-9)
    assert result["bbox"]["AP"] == pytest.approx(0.38248954016280745, abs=1e-9)


def test_masks_without_boxes_of_other_tools(case):
    folder = case("27")
    val = _prepare(folder)["val"]
    detections = json.loads((folder / "nb.json").read_text())
    result = evaluate(folder / "out/val.json", folder / "nb.json")
    assert result["segm"]["AP"] == pytest.approx(lvis_api(val, detections, "segm")["AP"], abs=1e-9)


@pytest.mark.parametrize("number", ["38", "39"])
def test_an_export_that_can_be_prepared_can_be_scored(case, number):
    folder = case(number)
    val = _prepare(folder)["val"]
    found = _perfect(folder, val)
    assert main(["evaluate", "out/val.json", found, "--out", "scores.json"]) == 0
    result = json.loads((folder / "scores.json").read_text())
    detections = json.loads((folder / found).read_text())
    for kind in ("segm", "bbox"):
        assert result[kind]["AP"] == pytest.approx(lvis_api(val, detections, kind)["AP"], abs=1e-9)


def _perfect(folder, val):
    """Writes detections that are the objects themselves; returns the file's name."""
    keys = ("image_id", "category_id", "bbox")
    sizes = {image["id"]: (image["height"], image["width"]) for image in val["images"]}
    detections = []
    for annotation in val["annotations"]:
        mask, size = annotation["segmentation"], sizes[annotation["image_id"]]
        if isinstance(mask, list):
            mask = hotcoco.mask.merge(hotcoco.mask.fr_py_objects(mask, *size))
            mask = {"size": list(size), "counts": mask["counts"].decode()}
        detections.append({k: annotation[k] for k in keys} | {"segmentation": mask, "score": 0.5})
    (folder / "found.json").write_text(json.dumps(detections))
    return "found.json"
