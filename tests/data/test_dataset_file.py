"""photos.yaml: what gol import and gol split write for train and val, and what they leave."""

import json
import shutil

import pytest
from export_files import WRITERS, coco

from gol.cli import main
from gol.data.imports.output import write_dataset_file
from gol.errors import UserError
from gol.files import read_yaml


@pytest.mark.parametrize("name", ["😀 photos", "a\u0085b\u2028c", "\x7f", "'\"\\: #{}", "x " * 90])
def test_any_folder_is_named_as_it_is(name, tmp_path):
    for _ in range(2):  # a new one and an earlier one
        path, unknown = write_dataset_file(tmp_path, name)
        assert read_yaml(path)["train"] == {"annotations": f"{tmp_path}/train.json", "images": name}
        assert not unknown


def test_what_was_filled_in_stays_where_the_images_are_not_known(tmp_path, capsys):
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(9)]
    objects = [{"id": i, "image_id": i, "category_id": 1} for i in range(9)]
    data = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "a"}]}
    (tmp_path / "all.json").write_text(json.dumps(data))
    split = ["split", str(tmp_path / "all.json"), "--out", str(tmp_path)]
    assert main(split) == 0
    assert "to be named in" in capsys.readouterr().out
    path = tmp_path / "photos.yaml"
    path.write_text(path.read_text().replace("FOLDER", "my photos").replace("pad: 32", "pad: 64"))
    assert main(split) == 0
    assert "to be named in" not in capsys.readouterr().out
    found = read_yaml(path)
    assert found["val"] == {"annotations": f"{tmp_path}/val.json", "images": "my photos"}
    assert found["pad"] == 64


@pytest.mark.parametrize("text", ['"train": {images: a}\nval: {images: a}\n', "val: {}\n", "[]\n"])
def test_one_that_would_not_name_both_splits_is_refused_and_kept(text, tmp_path):
    path = tmp_path / "photos.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"photos\.yaml cannot be changed"):
        write_dataset_file(tmp_path, "a")
    assert path.read_text() == text


def test_it_goes_with_the_annotations_that_it_names(truth, folder, tmp_path):
    out = tmp_path / "out"
    WRITERS["coco, CVAT"](truth, folder)
    assert main(["import", str(folder), "--out", str(out)]) == 0
    path = out / "photos.yaml"
    written = path.read_text()
    shutil.rmtree(folder / "annotations")
    (folder / "labels.json").write_text(json.dumps(coco(truth)))
    own = {split: {"annotations": f"{split}.json", "images": "a"} for split in ("train", "val")}
    path.write_text(json.dumps(own))  # of other files: somebody's own
    assert main(["import", str(folder), "--out", str(out)]) == 0
    assert path.exists() and not (out / "val.json").exists()
    path.write_text(written)
    assert main(["import", str(folder), "--out", str(out)]) == 0
    assert not path.exists()
