"""The built-in demo: its distribution, its masks, and that a killed run leaves no finished set."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter

import cv2
import numpy as np
import pytest
from coco_files import to_mask
from seeds import fresh_seed

from gol.data.demo import scene
from gol.data.demo.draw import draw_demo
from gol.data.demo.outlines import OUTLINES
from gol.data.demo.plan import even_order
from gol.data.demo.shapes import COMBINATIONS, HUES, combinations, draw_object
from gol.errors import UserError

SMALL = {"train_images": 60, "val_images": 20, "classes": 12}


@pytest.fixture(scope="module")
def demo(full_demo):
    """The demo at its default size with a random seed: (folder, seed, summary, train, val)."""
    folder = full_demo[0]
    train, val = (json.loads((folder / f"{s}.json").read_text()) for s in ("train", "val"))
    return *full_demo, train, val


def image_counts(data):
    pairs = {(a["category_id"], a["image_id"]) for a in data["annotations"]}
    return Counter(category for category, _ in pairs)


def test_counts_fall_exponentially_and_give_the_groups_of_lvis(demo):
    _, _, summary, train, val = demo
    counts = image_counts(train)
    expected = [round(300 * 0.01 ** (k / 39)) for k in range(40)]
    assert sorted(counts.values(), reverse=True) == expected
    assert summary["classes"] == {"r": 11, "c": 19, "f": 10}
    assert min(image_counts(val).values()) >= 15
    assert summary["train"] == {"images": 700, "objects": len(train["annotations"])}
    assert summary["val"] == {"images": 250, "objects": len(val["annotations"])}
    assert 2700 < summary["train"]["objects"] < 2830
    assert 700 < summary["val"]["objects"] < 820


def test_categories_state_the_counts_of_the_train_split(demo):
    _, _, _, train, val = demo
    images, objects = image_counts(train), Counter(a["category_id"] for a in train["annotations"])
    assert train["categories"] == val["categories"]
    for category in train["categories"]:
        assert category["image_count"] == images[category["id"]]
        assert category["instance_count"] == objects[category["id"]]
        group = "r" if category["image_count"] <= 10 else "c"
        assert category["frequency"] == ("f" if category["image_count"] > 100 else group)
    names = [category["name"] for category in train["categories"]]
    assert [c["id"] for c in train["categories"]] == list(range(1, 41))
    assert names == sorted(set(names))


def test_frequency_tells_nothing_about_shape_hue_and_texture(demo):
    categories = sorted(demo[3]["categories"], key=lambda c: -c["image_count"])
    for trait in range(3):
        ranks = {}
        for rank, category in enumerate(categories):
            ranks.setdefault(category["name"].split("_")[trait], []).append(rank)
        assert len(ranks) == (2, 4, 6)[trait]
        assert all(abs(np.mean(members) - 19.5) < 5 for members in ranks.values()), ranks


def test_polygons_boxes_and_areas_agree(demo):
    for data in demo[3:]:
        for a in data["annotations"]:
            mask = to_mask(a["segmentation"], 96, 96)
            assert mask.sum() == a["area"]
            assert list(cv2.boundingRect(mask.astype(np.uint8))) == a["bbox"]


def test_federated_labels(demo):
    _, _, _, train, _ = demo
    labelled = {image["id"]: set() for image in train["images"]}
    for a in train["annotations"]:
        labelled[a["image_id"]].add(a["category_id"])
    incomplete = 0
    for image in train["images"]:
        present, negative = labelled[image["id"]], set(image["neg_category_ids"])
        assert len(negative) == len(image["neg_category_ids"]) == (40 - len(present)) // 2
        assert not negative & present
        assert set(image["not_exhaustive_category_ids"]) <= present
        incomplete += len(image["not_exhaustive_category_ids"])
    # 2 % of 2,669 pairs; six standard deviations
    pairs = sum(image_counts(train).values())
    assert abs(incomplete - 0.02 * pairs) < 6 * np.sqrt(0.02 * pairs)


def test_labels_match_the_pixels(demo):
    """The hue in the middle of each solid object is that of its class."""
    folder, _, _, train, _ = demo
    files = {image["id"]: "/".join(image["coco_url"].split("/")[-2:]) for image in train["images"]}
    names = {category["id"]: category["name"] for category in train["categories"]}
    right = total = 0
    for a in train["annotations"][:1500]:
        texture, hue, _ = names[a["category_id"]].split("_")
        inner = cv2.erode(to_mask(a["segmentation"], 96, 96).astype(np.uint8), np.ones((5, 5)))
        if texture == "striped" or inner.sum() < 30:
            continue
        pixels = cv2.imread(str(folder / files[a["image_id"]]))
        assert pixels.shape == (96, 96, 3)
        mean = pixels[inner > 0].mean(0).astype(np.float32)
        found = cv2.cvtColor(mean[None, None] / 255, cv2.COLOR_BGR2HSV)[0, 0, 0] / 360
        distances = {name: abs((found - value + 0.5) % 1 - 0.5) for name, value in HUES.items()}
        right += min(distances, key=distances.get) == hue
        total += 1
    assert total > 300
    assert right / total > 0.97


@pytest.mark.parametrize("seed", [fresh_seed() for _ in range(3)])
def test_every_labelled_object_stays_visible(seed, monkeypatch):
    """At least 45 % of its own pixels, and no pixel belongs to two objects."""
    drawn = {}

    def record(kind, size, rng):
        drawn[kind] = draw_object(kind, size, rng)  # the last attempt is the one that was placed
        return drawn[kind]

    monkeypatch.setattr(scene, "draw_object", record)
    rng = np.random.default_rng(seed)
    partly = 0
    for _ in range(20):
        kinds = [COMBINATIONS[i] for i in rng.choice(48, 7, replace=False)]
        pixels, masks = scene.draw_scene(kinds, [None, None], 96, rng)
        assert pixels.shape == (96, 96, 3)
        assert np.sum(masks, axis=0).max() == 1
        for kind, mask in zip(kinds, masks, strict=True):
            share = mask.sum() / drawn[kind].mask.sum()
            assert 0.45 <= share <= 1
            partly += share < 0.8
    assert partly > 10  # occlusion does occur


@pytest.mark.parametrize("seed", [fresh_seed()])
@pytest.mark.parametrize("shape", OUTLINES)
def test_shapes_have_the_stated_area_and_reach_no_border_of_their_patch(shape, seed):
    rng = np.random.default_rng(seed)
    kinds = [kind for kind in combinations(1203) if kind.shape == shape]
    assert len(kinds) == 88
    for kind in kinds:
        sprite = draw_object(kind, 30, rng)
        assert abs(sprite.alpha.sum() / 900 - 1) < 0.08
        edge = np.ones_like(sprite.mask)
        edge[1:-1, 1:-1] = False
        assert not sprite.alpha[edge].any()


def read_texture(sprite):
    """The texture of a large square or disc, from its pixels."""
    inside = sprite.alpha >= 0.99
    core = cv2.erode(inside.astype(np.uint8), np.ones((5, 5))) > 0
    pale = np.quantile(sprite.colour[inside].min(axis=1), 0.98) > 148
    values = sprite.colour.min(axis=2) if pale else sprite.colour.max(axis=2)
    low, high = np.quantile(values[inside], [0.02, 0.98])
    if low > 0.6 * high:
        return "solid"
    second = inside & ((values > (low + high) / 2) == pale)
    x, y = (cv2.Sobel(second.astype(float), cv2.CV_64F, *axis)[core] for axis in ((1, 0), (0, 1)))
    one_way = np.hypot((x**2 - y**2).sum(), 2 * (x * y).sum()) / (x**2 + y**2).sum()
    parts = cv2.connectedComponentsWithStats(second.astype(np.uint8))[2][1:]
    if second[inside].mean() < 0.42:
        pattern = "dotted"
    elif second[inside & ~core].mean() < 0.02:
        pattern = "cored"
    elif one_way < 0.5:
        pattern = "chequered"
    else:
        pattern = "halved" if (parts[:, cv2.CC_STAT_AREA] > 12).sum() == 1 else "striped"
    return f"pale_{pattern}" if pale else pattern


@pytest.mark.parametrize("seed", [fresh_seed()])
def test_textures_can_be_told_apart(seed):
    rng = np.random.default_rng(seed)
    kinds = combinations(1203)
    assert len({kind.name for kind in kinds}) == len(kinds) == 1232
    kinds = [kind for kind in kinds if kind.shape in ("disc", "square")]
    assert len({kind.texture for kind in kinds}) == 11
    for kind in kinds:
        assert read_texture(draw_object(kind, 60, rng)) == kind.texture


@pytest.mark.parametrize(
    ("classes", "expected"), [(40, "f50b00b07f164245"), (100, "6dc55f19fd954a40")]
)
def test_what_is_drawn_by_a_seed_stays(classes, expected):
    """The order of the classes, and what each object draws from the generator."""
    rng = np.random.default_rng(7)
    order = even_order(classes, rng)
    for kind in order:
        draw_object(kind, 20, rng)
    text = " ".join(kind.name for kind in order) + f" {rng.random():.12f}"
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == expected


@pytest.mark.parametrize("seed", [fresh_seed(10**6)])
def test_same_seed_same_files_other_seed_others(tmp_path, seed):
    for name, number in (("a", seed), ("b", seed), ("c", seed + 1)):
        draw_demo(tmp_path / name, seed=number, **SMALL)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 84  # two of them digests
    for file in files:
        content = [(tmp_path / name / file).read_bytes() for name in "abc"]
        assert content[0] == content[1] != content[2], file


@pytest.mark.parametrize("seed", [fresh_seed()])
@pytest.mark.parametrize("size", [48, 130])
@pytest.mark.parametrize(("classes", "images"), [(2, 3), (40, 24), (48, 29), (100, 60), (150, 90)])
def test_other_sizes(tmp_path, seed, size, classes, images):
    summary = draw_demo(tmp_path, seed, images, images, size, classes, thresholds=(4, 20))
    data = json.loads((tmp_path / "train.json").read_text())
    assert sum(summary["classes"].values()) == classes
    assert min(category["image_count"] for category in data["categories"]) == 3
    assert {cv2.imread(str(p)).shape for p in (tmp_path / "val").iterdir()} == {(size, size, 3)}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"classes": 1233}, "classes=1233: .* 2 to 1,232"),
        ({"classes": 1}, "classes=1"),
        ({"size": 20}, "size=20: .* at least 48"),
        ({"train_images": 23}, "train_images=23: 40 classes need at least 24"),
        ({"train_images": 2, "classes": 2}, "train_images=2: 2 classes need at least 3"),
        ({"val_images": 0}, "val_images=0: 40 classes need at least 24"),
    ],
)
def test_impossible_arguments(tmp_path, arguments, named):
    with pytest.raises(UserError, match=named):
        draw_demo(tmp_path / "demo", **arguments)
    assert not (tmp_path / "demo").exists()


def test_another_data_set_is_not_overwritten(tmp_path):
    other = tmp_path / "train.json"
    other.write_text('{"info": {"description": "mine"}}')
    with pytest.raises(UserError, match=r"train\.json belongs to another data set"):
        draw_demo(tmp_path, **SMALL)
    assert os.listdir(tmp_path) == ["train.json"]
    assert "mine" in other.read_text()


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write"):
        draw_demo(tmp_path / "file" / "demo", **SMALL)


def test_killed_at_any_moment_it_leaves_no_finished_set(tmp_path):
    draw_demo(tmp_path / "whole", seed=1, **SMALL)
    draw_demo(tmp_path / "cut", seed=2, **SMALL)  # an older set that must not survive half
    call = f"from gol.data.demo.draw import draw_demo; draw_demo({str(tmp_path / 'cut')!r}, seed=1)"
    process = subprocess.Popen([sys.executable, "-c", call])
    deadline = time.monotonic() + 60
    while not (tmp_path / "cut" / "train" / "000100.jpg").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list((tmp_path / "cut").glob("*.json"))
    draw_demo(tmp_path / "cut", seed=1, **SMALL)
    for name in ("train.json", "val.json"):
        assert (tmp_path / "cut" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
