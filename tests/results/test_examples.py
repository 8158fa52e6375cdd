"""Validation images beside each other: which, what counts as found, and what may be missing."""

import json

import cv2
import numpy as np
import pytest
from lvis_oracle import random_dataset, random_detections
from numpy.random import default_rng
from PIL import Image
from run_folders import draw_images, edit, make_run
from seeds import fresh_seed

from gol.cli import main
from gol.config.layout import Figure
from gol.data.store import AnnotationStore
from gol.results.example_plot import plot_examples
from gol.results.examples import IMAGES, MOST, choose, read_blocks
from gol.results.rows import collect
from gol.results.runs import read_runs


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of images, and its dataset."""
    folder, rng = tmp_path_factory.mktemp("data"), default_rng(fresh_seed())
    dataset = random_dataset(rng, images=20, awkward=False)
    draw_images(rng, dataset, folder)
    return folder, dataset


def _run(path, data, detections, name="gumbel", text=json.dumps):
    """A run folder with detections of the data."""
    run = make_run(path, name, scorings=(name,))
    (run / "detections").mkdir()
    (run / f"detections/{name}.json").write_text(text(detections))
    test = {"ann_file": str(data / "val.store"), "img_prefix": str(data)}
    edit(run / "config.json", data={"test": test})
    return run


def _blocks(*runs):
    return read_blocks(read_runs(runs), {"": collect(runs)})


def test_the_images_are_those_of_the_rarest_classes(rng):
    dataset = random_dataset(rng, images=30)
    for image in dataset["images"]:
        image["file_name"] = ""
    store = AnnotationStore.from_annotations(dataset)
    counts = {category["id"]: category["image_count"] for category in dataset["categories"]}
    inside = [set(store.image_categories(row)) for row in range(len(store))]
    numbers = [len(store.image_categories(row)) for row in range(len(store))]
    expected = []
    for identity in sorted(counts, key=counts.get):
        there = [
            row for row in range(len(store)) if identity in inside[row] and row not in expected
        ]
        few = [row for row in there if numbers[row] <= MOST]
        if there and len(expected) < IMAGES:
            most = max((numbers[row] for row in few), default=0)
            least = min(numbers[row] for row in there)
            expected.append(next(r for r in there if numbers[r] == (most if few else least)))
    assert choose(store, [counts[identity] for identity in sorted(counts)]) == expected


def test_right_is_each_object_once_and_only_of_its_class(data, tmp_path):
    folder, dataset = data
    exact = [
        {"score": 0.9, **{key: a[key] for key in ("image_id", "category_id", "bbox")}}
        for a in dataset["annotations"]
    ]
    ids = [category["id"] for category in dataset["categories"]]
    following = dict(zip(ids, ids[1:] + ids[:1], strict=True))
    twice = [e | {"score": s} for e in exact for s in (0.3, 0.2)]
    wrong = [e | {"category_id": following[e["category_id"]], "score": 0.8} for e in exact]
    names = {"sigmoid": exact, "softmax": wrong, "gumbel": twice}
    runs = [_run(tmp_path / n, folder, found, n) for n, found in names.items()]
    (block,) = _blocks(*runs)
    assert block.methods == ["Sigmoid", "Softmax", "Gumbel"]
    for example in block.examples:
        shown = min(len(example.objects), MOST)
        assert [len(found) for found in example.found] == [shown] * 3
        assert all(thing.right for thing in example.found[0])
        if len(example.objects) == 1:
            assert not example.found[1][0].right
    for method in (0, 2):  # 0.3 before 0.2: no object counts a second time
        for example in block.examples:
            right = [t for t in example.found[method] if t.right]
            assert len(right) == min(len(example.objects), MOST)


@pytest.mark.parametrize("masks", [True, False], ids=["masks", "boxes"])
def test_a_file_that_is_written_otherwise_shows_the_same(data, tmp_path, rng, masks):
    """The scan of `gol detect`'s form must not miss detections that a parser finds."""
    folder, dataset = data
    detections = random_detections(rng, dataset)
    if not masks:
        detections = [{k: v for k, v in d.items() if k != "segmentation"} for d in detections]
    forms = {"a": json.dumps, "b": lambda found: json.dumps(found, indent=1, sort_keys=True)}
    runs = {n: _run(tmp_path / n, folder, detections, text=form) for n, form in forms.items()}
    first, second = ([e.found for e in _blocks(run)[0].examples] for run in runs.values())
    assert first == second and any(found for (found,) in first)


def test_an_entry_with_a_brace_in_a_text_is_not_lost(data, tmp_path):
    folder, dataset = data
    exact = [
        {"image_id": a["image_id"], "by": 'a "{" or [', "score": 0.9}
        | {key: a[key] for key in ("category_id", "bbox")}
        for a in dataset["annotations"]
    ]
    (block,) = _blocks(_run(tmp_path / "run", folder, exact))
    for example in block.examples:
        assert len(example.found[0]) == min(len(example.objects), MOST)
        assert all(thing.right for thing in example.found[0])


@pytest.mark.parametrize("entry", [1, {"a": 1}, []])
def test_what_is_no_detection_is_one_line(data, tmp_path, capsys, entry):
    run = _run(tmp_path / "run", data[0], [entry])
    said = plot_examples(read_runs([run]), {"": collect([run])}, tmp_path / "a.png")
    assert "are damaged" in said and capsys.readouterr().err == said + "\n"


@pytest.mark.slow
def test_a_report_says_in_a_line_why_there_are_none(data, tmp_path, capfd):
    """The workflow expects the file; what was drawn of other runs must not stay in it."""
    run = _run(tmp_path / "run", data[0], "", text=lambda _: '[{"image_id": 1, "category')
    figure = tmp_path / "out/figures" / Figure.EXAMPLES.file
    figure.parent.mkdir(parents=True)
    Image.new("RGB", (400, 400)).save(figure)
    assert main(["table", str(run), "--out", str(tmp_path / "out")]) == 0
    said = capfd.readouterr().err.splitlines()
    assert len(said) == 1 and "no examples" in said[0] and "gumbel.json" in said[0]
    with Image.open(figure) as image:
        assert image.width == 1200 and image.height < 200


@pytest.mark.parametrize("missing", ["detections/gumbel.json", "an image", "val.store", "config"])
def test_what_is_missing_is_named(data, tmp_path, missing, capsys):
    folder = data[0]
    run = _run(tmp_path / "run", folder, [])
    nowhere = {"ann_file": str(folder / "val.store"), "img_prefix": str(tmp_path)}
    if missing == "an image":
        edit(run / "config.json", data={"test": nowhere})
    elif missing == "val.store":
        edit(run / "config.json", data={"test": {**nowhere, "ann_file": "gone/val.store"}})
    elif missing == "config":
        edit(run / "config.json", data={})
    else:
        (run / missing).unlink()
    path = tmp_path / "a.png"
    said = plot_examples(read_runs([run]), {"": collect([run])}, path)
    assert missing.replace("an image", "cannot read the image") in said and not path.exists()
    assert capsys.readouterr().err == said + "\n"


def test_images_of_any_form_with_and_without_masks(tmp_path):
    """One of 20 megapixels, a panorama, and one of 16 bits; a crowded one; boxes alone."""
    sizes = {"huge": (4_000, 5_000), "wide": (40, 1200), "tall": (300, 20), "crowd": (64, 64)}
    dataset = {"images": [], "annotations": [], "categories": []}
    for identity, (name, (height, width)) in enumerate(sizes.items(), 1):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((height, width), np.uint16))
        size = {"height": height, "width": width}
        dataset["images"].append({"id": identity, "file_name": f"{name}.png", **size})
        dataset["categories"].append({"id": identity, "name": f"{name} $x_" * 9})
        x, y, w, h = box = [width / 4, height / 4, width / 2, height / 2]
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        for _ in range(1 if name != "crowd" else 30):
            dataset["annotations"].append(
                {
                    "id": len(dataset["annotations"]) + 1,
                    "image_id": identity,
                    "category_id": identity,
                    "bbox": box,
                    "area": w * h,
                    "segmentation": [corners] if name != "tall" else [],
                }
            )
    AnnotationStore.from_annotations(dataset).save(tmp_path / "val.store")
    keys = ("image_id", "category_id", "bbox")
    found = [{**{k: a[k] for k in keys}, "score": 0.5} for a in dataset["annotations"]]
    run = _run(tmp_path / "run", tmp_path, found)
    (block,) = _blocks(run)
    assert max(max(example.pixels.shape) for example in block.examples) <= 1200
    assert all(thing.right for example in block.examples for thing in example.found[0])
    assert plot_examples(read_runs([run]), {"": collect([run])}, tmp_path / "a.png") == ""
    with Image.open(tmp_path / "a.png") as image:
        assert image.width == 1200
