"""The checks of annotation files: each problem by itself, all at once, and none in good files."""

import copy
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_files import blank_images, random_coco
from PIL import Image

from gol.data.annotations import KINDS, examine, load_annotations
from gol.errors import UserError


def problems(data, folder, decode=True):
    """What is found, without the copy that has it no more."""
    return examine(data, folder, decode)[1]


@pytest.fixture
def good(rng, tmp_path):
    """A random data set without a problem, and the folder of its images."""
    return random_coco(rng, tmp_path / "images"), tmp_path / "images"


def edit(key, index, **changes):
    """A mutation that sets keys of one entry; None deletes one."""

    def apply(data, folder):
        entry = data[key][index]
        for name, value in changes.items():
            if value is None:
                del entry[name]
            else:
                entry[name] = value

    return apply


def polygon(*points):
    return [[coordinate for point in points for coordinate in point]]


def duplicate(key, name):
    def apply(data, folder):
        data[key][1][name] = data[key][0][name]

    return apply


def stretch(x, y, right, bottom, mask=False):
    """A mutation that puts a box or a mask's edges this far beyond the image's."""

    def apply(data, folder):
        image = data["images"][0]
        w, h = image["width"] + right, image["height"] + bottom
        annotation = data["annotations"][0]
        annotation["bbox"] = [x, y, w - x, h - y]
        annotation["segmentation"] = polygon((1, 1), (20, 1), (20, 20))
        if mask:
            annotation["bbox"] = [1, 1, 10, 10]
            annotation["segmentation"] = polygon((x, y), (w, y), (w, h))

    return apply


def rle(counts, size=None):
    def apply(data, folder):
        image = data["images"][0]
        shape = size or [image["height"], image["width"]]
        pixels = image["height"] * image["width"]
        runs = [pixels + count if count <= 0 else count for count in counts]
        data["annotations"][0]["segmentation"] = {"size": shape, "counts": runs}

    return apply


def rle_text(counts):
    def apply(data, folder):
        rle([0])(data, folder)
        data["annotations"][0]["segmentation"]["counts"] = counts

    return apply


def counts_of_a_number(data, folder):
    rle([0])(data, folder)
    data["annotations"][0]["segmentation"]["counts"] = 3


def cut_file(share):
    def apply(data, folder):
        path = folder / data["images"][0]["file_name"]
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    return apply


def write_file(write):
    return lambda data, folder: write(folder / data["images"][0]["file_name"])


def other_size(path):
    cv2.imwrite(str(path), np.zeros((33, 44, 3), np.uint8))


TRIANGLE = polygon((1, 1), (9, 1), (9, 9))
WRONG = "missing or wrong key"
CASES = {
    "annotation without box": (edit("annotations", 0, bbox=None), WRONG),
    "box of three": (edit("annotations", 0, bbox=[1, 2, 3]), WRONG),
    "box of strings": (edit("annotations", 0, bbox=["1", "2", "3", "4"]), WRONG),
    "box with NaN": (edit("annotations", 0, bbox=[1, 2, float("nan"), 4]), WRONG),
    "area of text": (edit("annotations", 0, area="12"), WRONG),
    "iscrowd of 2": (edit("annotations", 0, iscrowd=2), WRONG),
    "ignore of text": (edit("annotations", 0, ignore="no"), WRONG),
    "ignore of NaN": (edit("annotations", 0, ignore=float("nan")), WRONG),
    "area above floats": (edit("annotations", 0, area=10**400), WRONG),
    "box above floats": (edit("annotations", 0, bbox=[1, 1, 10**309, 1]), WRONG),
    "no mask": (edit("annotations", 0, segmentation=None), WRONG),
    "flat mask": (edit("annotations", 0, segmentation=TRIANGLE[0]), WRONG),
    "mask with inf": (edit("annotations", 0, segmentation=[[1, 1, 9, 1, float("inf"), 9]]), WRONG),
    "RLE counts of a number": (counts_of_a_number, WRONG),
    "id of text": (edit("annotations", 0, id="7"), WRONG),
    "annotation no object": (lambda data, _: data["annotations"].append([1]), WRONG),
    "image without width": (edit("images", -1, width=None), WRONG),
    "image of float height": (edit("images", -1, height=64.0), WRONG),
    "image of a vast width": (edit("images", -1, width=2**40), WRONG),
    "name not in UTF-8": (edit("images", -1, file_name="caf\udce9.jpg"), WRONG),
    "category not in UTF-8": (edit("categories", -1, name="caf\udce9"), WRONG),
    "image without file": (edit("images", -1, file_name=None), WRONG),
    "half of LVIS": (edit("images", -1, neg_category_ids=[]), WRONG),
    "category without name": (edit("categories", -1, name=None), WRONG),
    "frequency of x": (edit("categories", -1, frequency="x"), WRONG),
    "image ids": (duplicate("images", "id"), "duplicate image id"),
    "annotation ids": (duplicate("annotations", "id"), "duplicate annotation id"),
    "category ids": (duplicate("categories", "id"), "duplicate category id"),
    "category names": (duplicate("categories", "name"), "duplicate category name"),
    "image unknown": (edit("annotations", 0, image_id=10**6), "unknown image"),
    "category unknown": (edit("annotations", 0, category_id=10**6), "unknown category"),
    "box right of image": (stretch(0, 0, 1.5, 0), "box outside the image"),
    "box above image": (stretch(0, -3, 0, 0), "box outside the image"),
    "negative box": (edit("annotations", 0, bbox=[9, 9, -4, 5]), "box outside the image"),
    "box 1 px out": (stretch(-1, 0, 0, 0.9), "box up to 1 px outside the image"),
    "mask below image": (stretch(0, 0, 0, 1.5, mask=True), "mask outside the image"),
    "mask 1 px out": (stretch(-0.4, 0, 1, 0, mask=True), "mask up to 1 px outside the image"),
    "two points": (edit("annotations", 0, segmentation=[[1, 1, 9, 9]]), "mask without a polygon"),
    "no polygon": (edit("annotations", 0, segmentation=[]), "mask without a polygon"),
    "one of two": (
        edit("annotations", 0, segmentation=[[1, 1, 9, 9], *TRIANGLE]),
        "degenerate polygon",
    ),
    "half a point": (
        edit("annotations", 0, segmentation=[[1, 1, 9, 1, 9, 9, 4], *TRIANGLE]),
        "degenerate polygon",
    ),
    "RLE without size": (
        edit("annotations", 0, segmentation={"counts": [9]}),
        "RLE that does not fit",
    ),
    "RLE of other size": (rle([5, 0], size=[3, 4]), "RLE that does not fit"),
    "RLE of half pixels": (rle([5, 0], size=[3.5, 4]), "RLE that does not fit"),
    "RLE of a vast run": (rle([10**400]), "RLE that does not fit"),
    "RLE without an end": (rle_text("o" * 10**6), "RLE that does not fit"),
    "RLE too short": (rle([5, 7]), "RLE that does not fit"),
    "RLE too long": (rle([5, 0]), "RLE that does not fit"),
    "RLE empty": (rle([0]), "zero area"),
    "area 0": (edit("annotations", 0, area=0), "zero area"),
    "box of no width": (edit("annotations", 0, bbox=[9, 9, 0, 5]), "zero area"),
    "file missing": (write_file(os.remove), "missing image file"),
    "file empty": (cut_file(0), "unreadable image file"),
    "file cut at 30 %": (cut_file(0.3), "unreadable image file"),
    "file cut at 99 %": (cut_file(0.99), "unreadable image file"),
    "file no image": (write_file(lambda p: p.write_text("hello")), "unreadable image file"),
    "file of other size": (write_file(other_size), "image of another size"),
}


@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.parametrize("case", CASES)
def test_one_problem(good, case, decode):
    data, folder = good
    # the edited annotation is on the edited image, which the last image is not
    data["annotations"][0]["image_id"] = data["images"][0]["id"]
    data["annotations"][0] |= {"bbox": [1, 1, 8, 8], "area": 32, "segmentation": TRIANGLE}
    mutate, kind = CASES[case]
    assert problems(data, folder, decode) == []
    mutate(data, folder)
    before = copy.deepcopy(data)
    found = {problem.kind: problem for problem in problems(data, folder, decode)}
    assert repr(data) == repr(before)  # NaN is not equal to itself
    # an image or a category that is wrong makes what points to it wrong too
    follow_ups = {"unknown image", "unknown category"} if kind.startswith(("miss", "dup")) else ()
    assert set(found) - {kind} <= set(follow_ups)
    assert found[kind].severity == KINDS[kind]
    assert found[kind].fatal == (KINDS[kind] == "error")
    assert found[kind].count >= 1
    assert 1 <= len(found[kind].examples) <= 3


def test_every_kind_is_tested():
    assert {kind for _, kind in CASES.values()} == set(KINDS)


def test_all_problems_in_one_pass(rng, tmp_path):
    """Many problems at once: each kind is counted rightly and three examples are kept."""
    data = random_coco(rng, tmp_path, images=12, categories=6)
    size = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    expected = {}
    order = rng.permutation(len(data["annotations"])).tolist()

    def spoil(kind, **changes):
        count = int(rng.integers(1, 7))
        expected[kind] = count
        for _ in range(count):
            annotation = data["annotations"][order.pop()]
            annotation |= {"bbox": [1, 1, 8, 8], "area": 32, "segmentation": TRIANGLE}
            annotation |= {
                k: v(*size[annotation["image_id"]]) if callable(v) else v
                for k, v in changes.items()
            }

    spoil("box outside the image", bbox=lambda w, h: [1, 1, w + 4, 5])
    spoil("box up to 1 px outside the image", bbox=lambda w, h: [1, 1, w - 0.5, 5])
    spoil("mask outside the image", segmentation=lambda w, h: [[0, 0, 5, h + 2, 5, 0]])
    spoil("mask without a polygon", segmentation=[[1, 2]])
    spoil("unknown image", image_id=10**7)
    spoil("unknown category", category_id=10**7)
    spoil("zero area", area=0)
    missing = data["images"][:2]
    expected["missing image file"] = 2
    for image in missing:
        (tmp_path / image["file_name"]).unlink()

    found = problems(data, tmp_path)
    assert {problem.kind: problem.count for problem in found} == expected
    assert [p.fatal for p in found] == sorted((p.fatal for p in found), reverse=True)
    for problem in found:
        assert len(problem.examples) == min(3, problem.count)
        assert problem.examples[0] in str(problem)
        assert "\n" not in str(problem)
    assert str(tmp_path / missing[0]["file_name"]) in {
        example for problem in found for example in problem.examples
    }


@pytest.mark.parametrize("identity", [..., "7", 3.5, None, [1], 2**70])
@pytest.mark.parametrize("section", ["images", "categories"])
def test_errors_that_follow_from_one_are_not_repeated(good, section, identity):
    """A width that lacked in one image made all its annotations belong to an unknown one."""
    data, folder = good
    entry, key = data[section][0], {"images": "image_id", "categories": "category_id"}[section]
    pointing = [a for a in data["annotations"] if a[key] == entry["id"]]
    if identity is ...:
        del entry["width" if section == "images" else "name"]
    else:
        entry["id"] = identity
        for annotation in pointing:
            annotation[key] = identity
    (problem,) = problems(data, folder)
    assert (problem.kind, problem.count) == (WRONG, 1)


def test_sizes_of_rle_may_be_whole_floats_and_come_out_whole(good):
    data, folder = good
    for annotation in data["annotations"]:
        if isinstance(annotation["segmentation"], dict):
            size = annotation["segmentation"]["size"]
            annotation["segmentation"]["size"] = [*map(float, size)]
    clean, found = examine(data, folder)
    sizes = [a["segmentation"]["size"] for a in clean["annotations"] if "size" in a["segmentation"]]
    assert not found and all(type(side) is int for size in sizes for side in size)


def test_bad_annotations_can_be_left_out(good):
    data, folder = good
    data["annotations"][3]["bbox"] = [-20, 0, 30, 30]
    assert [problem.fatal for problem in problems(data, folder)] == [True]
    clean, (problem,) = examine(data, folder, drop_bad=True)
    assert not problem.fatal and problem.severity == "repaired: annotation left out"
    ids = [annotation["id"] for annotation in data["annotations"]]
    assert [annotation["id"] for annotation in clean["annotations"]] == ids[:3] + ids[4:]


def test_clipping_keeps_boxes_and_masks_inside(rng, good):
    data, folder = good
    size = {image["id"]: (image["width"], image["height"]) for image in data["images"]}
    for a in data["annotations"]:
        w, h = size[a["image_id"]]
        out = rng.uniform(-1, 1, 4).tolist()
        a["bbox"] = [out[0], out[1], w + out[2] - out[0], h + out[3] - out[1]]
        a["segmentation"] = polygon((out[0], out[1]), (w + out[2], 5), (5, h + out[3]))
    clean, found = examine(data, folder)
    assert found and not any(problem.fatal for problem in found)
    for a in clean["annotations"]:
        w, h = size[a["image_id"]]
        x, y, right, bottom = *a["bbox"][:2], *np.add(a["bbox"][:2], a["bbox"][2:])
        assert x >= 0 and y >= 0 and right <= w + 1e-9 and bottom <= h + 1e-9
        points = np.reshape(a["segmentation"], (-1, 2))
        assert (points >= 0).all() and (points <= (w, h)).all()


@pytest.mark.parametrize("decode", [True, False])
def test_turned_photos_have_the_size_that_opencv_reads(tmp_path, decode):
    """Exif orientation 6 swaps width and height, for OpenCV and so for mmdet."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (60, 40)).save(tmp_path / "a.jpg", exif=exif)
    height, width = cv2.imread(str(tmp_path / "a.jpg")).shape[:2]
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": width, "height": height}],
        "annotations": [],
        "categories": [{"id": 1, "name": "x"}],
    }
    assert problems(data, tmp_path, decode) == []
    data["images"][0] |= {"width": height, "height": width}
    assert [p.kind for p in problems(data, tmp_path, decode)] == ["image of another size"]


def test_data_behind_the_end_of_a_jpeg_is_no_truncation(good):
    data, folder = good
    for image in data["images"]:
        with open(folder / image["file_name"], "ab") as file:
            file.write(bytes(5000))
    assert problems(data, folder, decode=False) == problems(data, folder, decode=True) == []


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "not valid JSON"),
        ('{"images": [', "not valid JSON"),
        ("\x00\xff", "is UTF-16, not a UTF-8 text"),
        ("[1, 2]", "not of the LVIS or COCO schema"),
        ('{"images": [{}], "categories": [{}]}', "'annotations' must be a list"),
        ('{"images": {}, "annotations": [], "categories": [{}]}', "'images' must be a list"),
        ('{"images": [], "annotations": [], "categories": [{}]}', "'images' is empty"),
        ('{"images": [{}], "annotations": [], "categories": []}', "'categories' is empty"),
    ],
)
def test_files_that_are_no_annotation_files(tmp_path, content, named):
    file = tmp_path / "wrong.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(UserError, match=named) as error:
        load_annotations(file)
    assert str(file) in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*none\.json"):
        load_annotations(tmp_path / "none.json")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.999])
def test_truncated_real_file(shared_data, tmp_path, cut):
    text = (shared_data / "lvis_v0.5_val_100.json").read_text()
    file = tmp_path / "cut.json"
    file.write_text(text[: int(len(text) * cut)])
    with pytest.raises(UserError, match="truncated"):
        load_annotations(file)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("decode", [True, False])
def test_real_files_have_no_problem(shared_data, split, decode):
    folder: Path = shared_data / "minicoco_lt"
    assert problems(load_annotations(folder / f"minicoco_lt_{split}.json"), folder, decode) == []


def test_lvis_annotations_have_no_problem(shared_data, tmp_path):
    file = shared_data / "lvis_v0.5_val_100.json"
    data = load_annotations(file)
    assert problems(data, blank_images(data, tmp_path), decode=False) == []
    assert data == json.loads(file.read_text())
