"""Shapes that only some labelling tools have: brush masks, circles, turned boxes, instances."""

import json

import numpy as np
import pytest
from coco_files import to_mask
from export_files import png
from PIL import Image

from gol.data.imports.door import import_export
from gol.data.imports.repair import Answers
from gol.errors import UserError

WIDTH, HEIGHT = 40, 30


@pytest.fixture
def folder(tmp_path):
    """An export of one image of 40 x 30 px."""
    folder = tmp_path / "export"
    folder.mkdir()
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "a.png")
    return folder


@pytest.fixture
def mask():
    """A part with holes, which no single polygon can express."""
    return np.random.default_rng(3).random((9, 12)) < 0.6


def imported(folder, **answers):
    summary = import_export(folder, folder.parent / "out", answers=Answers(**answers))
    data = json.loads((folder.parent / "out/annotations.json").read_text())
    return data["annotations"], {c["kind"]: c["count"] for c in summary["changes"]}


def pixels(annotation):
    return to_mask(annotation["segmentation"], HEIGHT, WIDTH)


def placed(part, left, top):
    whole = np.zeros((HEIGHT, WIDTH), bool)
    whole[top : top + part.shape[0], left : left + part.shape[1]] = part
    return whole


def labelme(folder, *shapes):
    shapes = [{"label": "a", "group_id": None, **shape} for shape in shapes]
    size = {"imageWidth": WIDTH, "imageHeight": HEIGHT}
    content = {"shapes": shapes, "imagePath": "a.png", **size}
    (folder / "a.json").write_text(json.dumps(content))


def test_labelme_masks_circles_and_groups(folder, mask):
    triangles = [[[1, 1], [9, 1], [5, 8]], [[20, 1], [29, 1], [25, 8]]]
    labelme(
        folder,
        {"shape_type": "mask", "points": [[20, 10], [31, 18]], "mask": png(mask)},
        {"shape_type": "circle", "points": [[10, 20], [14, 23]]},
        *({"shape_type": "polygon", "points": points, "group_id": 7} for points in triangles),
        {"shape_type": "line", "points": [[1, 1], [2, 2]]},
        {"shape_type": "rectangle", "points": [[9, 9], [3, 4]]},
    )
    found, said = imported(folder, boxes="drop")
    assert (pixels(found[0]) == placed(mask, 20, 10)).all()
    assert pixels(found[1]).sum() == pytest.approx(np.pi * 25, rel=0.03)
    assert found[2]["segmentation"] == [[1, 1, 9, 1, 5, 8], [20, 1, 29, 1, 25, 8]]
    assert said == {
        "circle or ellipse": 1,
        "point, line or other shape without an area": 1,
        "box without a mask": 1,
    }


@pytest.mark.parametrize(
    "shape",
    [
        {"shape_type": "mask", "points": [[35, 25], [46, 33]], "mask": png(np.ones((9, 12)))},
        {"shape_type": "mask", "points": [[1, 1], [3, 3]], "mask": "AAAA"},
        {"shape_type": "mask", "points": [[1, 1], [3, 3]], "mask": None},
        {"shape_type": "polygon", "points": [[1, 1], [float("inf"), 3], [5, 5]]},
        {"shape_type": "polygon", "points": 3},
    ],
)
def test_malformed_shapes_are_named(shape, folder):
    labelme(folder, shape)
    with pytest.raises(UserError, match=r"a.json: shapes\[0\].*--drop-bad"):
        imported(folder)


def cvat(folder, *shapes, before=""):
    size = f'width="{WIDTH}" height="{HEIGHT}"'
    text = "".join(shapes)
    content = f'{before}<image id="0" name="a.png" {size}>{text}</image>'
    (folder / "labels.xml").write_text(f"<annotations>{content}</annotations>")


def test_cvat_brush_masks_ellipses_turned_boxes_and_groups(folder, mask):
    flat = mask.ravel().astype(int)
    edges = np.flatnonzero(np.diff(flat, prepend=0, append=2))
    runs = ",".join(map(str, np.diff(edges, prepend=0)))
    cvat(
        folder,
        f'<mask label="b" rle="{runs}" left="20" top="10" width="12" height="9"/>',
        '<ellipse label="b" cx="10" cy="20" rx="8" ry="3" rotation="90"/>',
        '<box label="a" xtl="4" ytl="8" xbr="14" ybr="12" rotation="90"/>',
        '<polygon label="a" points="1,1;9,1;5,8" group_id="2"/>',
        '<polygon label="a" points="20,1;29,1;25,8" group_id="2"/>',
        '<polyline label="a" points="1,1;2,2"/><tag label="a"/>',
    )
    found, said = imported(folder, boxes="rectangles")
    assert (pixels(found[0]) == placed(mask, 20, 10)).all()
    x, y, w, h = found[1]["bbox"]
    assert (x, y, w, h) == pytest.approx((7, 12, 6, 16), abs=0.1)
    assert found[2]["bbox"] == pytest.approx([7, 5, 4, 10])
    assert pixels(found[2]).sum() == 40
    assert found[3]["segmentation"] == [[1, 1, 9, 1, 5, 8], [20, 1, 29, 1, 25, 8]]
    assert said == {
        "circle or ellipse": 1,
        "box taken as a mask": 1,
        "point, line or other shape without an area": 1,
    }


@pytest.mark.parametrize("runs", ["5,5", "1,-1,10", "9999999999999", "x", ""])
def test_a_brush_mask_that_does_not_fit_is_named(runs, folder):
    cvat(folder, f'<mask label="b" rle="{runs}" left="0" top="0" width="3" height="3"/>')
    with pytest.raises(UserError, match="1 x malformed mask"):
        imported(folder)


@pytest.mark.parametrize("sides", [(10**6, 10**6), (2**40, 1), (WIDTH, -HEIGHT)])
def test_no_memory_is_taken_for_a_size_that_a_file_states(sides, folder):
    width, height = sides
    text = f'<mask label="b" rle="0,{width * height}" left="0" top="0" width="{width}" '
    text = (
        f'<image name="a.png" width="{width}" height="{height}">{text}height="{height}"/></image>'
    )
    (folder / "a.xml").write_text(f"<annotations>{text}</annotations>")
    with pytest.raises(UserError, match="1 x malformed mask"):
        imported(folder)


def test_cvat_tracks_are_frames_of_a_video(folder):
    (folder / "a.png").rename(folder / "frame_000004.png")
    shape = '<polygon frame="{}" outside="{}" points="1,1;9,1;5,8"/>'
    track = "".join(shape.format(frame, outside) for frame, outside in ((4, 0), (5, 1)))
    size = f"<width>{WIDTH}</width><height>{HEIGHT}</height>"
    meta = f"<meta><original_size>{size}</original_size></meta>"
    text = f'<annotations>{meta}<track id="0" label="a">{track}</track></annotations>'
    (folder / "street.xml").write_text(text)
    found, said = imported(folder)
    assert [a["segmentation"] for a in found] == [[[1, 1, 9, 1, 5, 8]]] and not said
    written = json.loads((folder.parent / "out/annotations.json").read_text())
    assert written["images"][0]["video"] == "street"


def voc(folder, *objects, database="Unknown"):
    body = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult><bndbox>"
        + "".join(
            f"<{key}>{value}</{key}>"
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True)
        )
        + "</bndbox></object>"
        for name, hard, box in objects
    )
    head = f"<filename>a.png</filename><source><database>{database}</database></source>"
    (folder / "Annotations").mkdir()
    (folder / "Annotations/a.xml").write_text(f"<annotation>{head}{body}</annotation>")


@pytest.mark.parametrize("colours", [True, False])
def test_voc_instances_go_to_the_objects_whose_boxes_they_fill(folder, colours):
    voc(
        folder,
        ("cat", 0, (21, 11, 30, 20)),
        ("dog", 1, (2, 3, 10, 12)),
        database="The VOC2012 Database",
    )
    picture = np.zeros((HEIGHT, WIDTH), np.uint8)
    picture[2:12, 1:10] = 1
    picture[10:20, 20:30] = 2
    picture[9, 20:30] = 255  # the border
    cat, dog = picture == 2, picture == 1
    image = Image.fromarray(picture, "L")
    if colours:
        table = np.zeros((256, 3), np.uint8)
        table[1], table[2], table[255] = (128, 0, 0), (0, 128, 0), (224, 224, 192)
        image = Image.fromarray(table[picture])
    (folder / "SegmentationObject").mkdir()
    image.save(folder / "SegmentationObject/a.png")
    (folder / "JPEGImages").mkdir()
    (folder / "a.png").rename(folder / "JPEGImages/a.png")
    found, _ = imported(folder)
    assert (pixels(found[0]) == cat).all() and (pixels(found[1]) == dog).all()
    assert found[0]["bbox"] == [20, 10, 10, 10] and found[1]["ignore"] == 1


def test_boxes_of_voc_and_yolo_are_a_question(folder):
    voc(folder, ("cat", 0, (20, 10, 30, 20)))
    with pytest.raises(UserError, match="--boxes rectangles"):
        imported(folder)
    found, _ = imported(folder, boxes="rectangles")
    assert found[0]["bbox"] == [20, 10, 10, 10]
    (folder / "Annotations/a.xml").unlink()
    (folder / "classes.txt").write_text("cat\ndog\n")
    (folder / "a.txt").write_text("1 0.5 0.5 0.25 0.5")
    with pytest.raises(UserError, match="--boxes rectangles"):
        imported(folder)
    found, _ = imported(folder, boxes="rectangles")
    assert found[0]["bbox"] == [15, 7.5, 10, 15] and found[0]["category_id"] == 2
    (folder / "a.txt").write_text("2 0.5 0.5 0.25 0.5")
    with pytest.raises(UserError, match="class 2 of 2"):
        imported(folder)


def via(folder, *regions, numbered=False):
    regions = [
        {"shape_attributes": shape, "region_attributes": attributes}
        for shape, attributes in regions
    ]
    listed = {str(i): region for i, region in enumerate(regions)} if numbered else regions
    entry = {"filename": "a.png", "size": 3, "regions": listed, "file_attributes": {}}
    (folder / "via.json").write_text(json.dumps({"a.png3": entry}))


CIRCLE = {"name": "circle", "cx": 10, "cy": 10, "r": 5}


def test_via_of_version_1_without_classes_and_with_several_attributes(folder):
    via(folder, (CIRCLE, {}), numbered=True)
    found, said = imported(folder)
    assert said["regions without a class"] == 1 and len(found) == 1
    via(folder, (CIRCLE, {"kind": {"nut": True, "tea": False}, "ripe": "yes"}))
    with pytest.raises(UserError, match="the attributes kind, ripe: --class-key"):
        imported(folder)
    imported(folder, class_key="kind")
    written = json.loads((folder.parent / "out/annotations.json").read_text())
    assert [c["name"] for c in written["categories"]] == ["nut"]
    with pytest.raises(UserError, match="unknown region attribute 'kinds'"):
        imported(folder, class_key="kinds")


def test_boxes_of_a_sagemaker_manifest(folder):
    box = {"class_id": 1, "left": 20, "top": 10, "width": 10, "height": 10}
    line = {
        "source-ref": "s3://bucket/photos/a.png",
        "job": {"annotations": [box], "image_size": [{"width": WIDTH, "height": HEIGHT}]},
        "job-metadata": {"class-map": {"0": "dog", "1": "cat"}, "objects": [{"confidence": 0}]},
    }
    (folder / "output.manifest").write_text(json.dumps(line) + "\n")
    with pytest.raises(UserError, match="--boxes rectangles"):
        imported(folder)
    found, said = imported(folder, boxes="rectangles")
    assert found[0]["bbox"] == [20, 10, 10, 10] and said == {"box taken as a mask": 1}
    for end in ('{"source-ref": "s3://buck', '{"source-ref": "b.png"}'):
        (folder / "output.manifest").write_text(f"{json.dumps(line)}\n{end}\n")
        with pytest.raises(UserError, match=r"1 x malformed label.*line 2 has no image"):
            imported(folder, boxes="rectangles")
    line["job"]["annotations"] = [{**box, "class_id": 2}]
    (folder / "output.manifest").write_text(json.dumps(line))
    with pytest.raises(UserError, match=r"1 x malformed label.*line 1"):
        imported(folder)
