"""One drawn truth, written as each labelling tool would write it, for the tests of gol import."""

import base64
import io
import json
from xml.etree import ElementTree as ET

import numpy as np
from coco_files import to_mask
from PIL import Image
from pycocotools import mask as coco_mask

from gol.data.imports.door import import_export

CLASSES = ["apple", "nut", "pear tree"]


def draw_truth(rng, folder, images=6, splits=("train", "val")):
    """Writes images to ``folder/SPLIT/images`` and returns, for each, its split, size and objects.

    An object is (class, polygons); coordinates are whole pixels, and no two images are of one size.
    """
    truth = {}
    for index in range(images):
        split = splits[index % len(splits)]
        width, height = 60 + 7 * index, 50 + 3 * index
        name = f"{split}/images/photo {index}.png"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        objects = []
        for number in range(3):
            x, y = int(rng.integers(0, width - 20)), int(rng.integers(0, 12)) + 13 * number
            points = [x, y, x + 18, y + int(rng.integers(0, 3)), x + 15, y + 11, x + 2, y + 10]
            objects.append((CLASSES[int(rng.integers(3))], [points]))
        truth[name] = {"split": split, "size": (width, height), "objects": objects}
    return truth


def boxes_around(polygons):
    xs = [x for polygon in polygons for x in polygon[0::2]]
    ys = [y for polygon in polygons for y in polygon[1::2]]
    return [min(xs), min(ys), max(xs), max(ys)]


def pairs(polygon):
    return list(zip(polygon[0::2], polygon[1::2], strict=True))


def of_split(truth, split):
    return {name: image for name, image in truth.items() if image["split"] == split}


def coco(truth, split=None):
    """COCO's schema as its own files have it."""
    chosen = {n: i for n, i in truth.items() if split in (None, i["split"])}
    images, annotations = [], []
    for number, (name, image) in enumerate(chosen.items(), 1):
        width, height = image["size"]
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for label, polygons in image["objects"]:
            x0, y0, x1, y1 = boxes_around(polygons)
            rle = coco_mask.merge(coco_mask.frPyObjects(polygons, height, width))
            annotation = {
                "id": len(annotations) + 1,
                "image_id": number,
                "category_id": CLASSES.index(label) + 1,
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": int(coco_mask.area(rle)),
                "iscrowd": 0,
                "segmentation": polygons,
            }
            annotations.append(annotation)
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES, 1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _dump(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_roboflow(truth, folder):
    """A root category, and the labels beside the images."""
    for split in ("train", "val"):
        data = coco(truth, split)
        for category in data["categories"]:
            category["supercategory"] = "fruits"
        data["categories"].insert(0, {"id": 0, "name": "fruits", "supercategory": "none"})
        for image in data["images"]:
            image["file_name"] = image["file_name"].split("/")[-1]
            image["extra"] = {"name": "x {y}"}
        _dump(folder / split / "images" / "_annotations.coco.json", data)


def write_cvat_coco(truth, folder):
    """annotations/instances_SPLIT.json with attributes, dates of 0 and brush masks."""
    for split in ("train", "val"):
        data = coco(truth, split)
        for image in data["images"]:
            image |= {"license": 0, "flickr_url": "", "coco_url": "", "date_captured": 0}
        for annotation in data["annotations"]:
            annotation["attributes"] = {"occluded": False}
        _dump(folder / f"annotations/instances_{split}.json", data)


def write_label_studio(truth, folder):
    """Backslashes, class ids from 0, and a file without splits."""
    data = coco(truth)
    for image in data["images"]:
        image["file_name"] = image["file_name"].replace("/", "\\")
    for entry in (*data["categories"], *data["annotations"]):
        key = "category_id" if "category_id" in entry else "id"
        entry[key] -= 1
    _dump(folder / "result.json", data)


def write_fiftyone(truth, folder):
    """NaN and null where nobody looks, ids as text."""
    data = coco(truth)
    for image in data["images"]:
        image["id"] = f"6f{image['id']:022x}"
        image["date_captured"] = float("nan")
    for annotation in data["annotations"]:
        annotation["image_id"] = f"6f{annotation['image_id']:022x}"
        annotation |= {"iscrowd": None, "supercategory": float("nan")}
    _dump(folder / "labels.json", data)


def write_datumaro(truth, folder):
    """Restarting ids, floats for whole numbers, no boxes and areas."""
    for split in ("train", "val"):
        data = coco(truth, split)
        for annotation in data["annotations"]:
            del annotation["bbox"], annotation["area"]
            annotation |= {"id": 1, "image_id": float(annotation["image_id"]), "iscrowd": "false"}
        for image in data["images"]:
            del image["width"], image["height"]
        _dump(folder / f"annotations/instances_{split}.json", data)


def write_labelme(truth, folder):
    for name, image in truth.items():
        width, height = image["size"]
        shapes = [
            {"label": label, "points": pairs(polygon), "group_id": group, "shape_type": "polygon"}
            for group, (label, polygons) in enumerate(image["objects"])
            for polygon in polygons
        ]
        content = {
            "version": "5.4.1",
            "flags": {},
            "shapes": shapes,
            "imagePath": "..\\images\\" + name.split("/")[-1],
            "imageData": base64.b64encode(b"x" * 100).decode(),
            "imageHeight": height,
            "imageWidth": width,
        }
        _dump((folder / name).with_suffix(".json"), content)


def write_via(truth, folder):
    for split in ("train", "val"):
        metadata = {}
        for name, image in of_split(truth, split).items():
            regions = [
                {
                    "shape_attributes": {
                        "name": "polygon",
                        "all_points_x": polygons[0][0::2],
                        "all_points_y": polygons[0][1::2],
                    },
                    "region_attributes": {"fruit": label},
                }
                for label, polygons in image["objects"]
            ]
            entry = {"filename": name.split("/")[-1], "size": 1, "regions": regions}
            metadata[f"{name}1"] = entry | {"file_attributes": {}}
        _dump(folder / f"via_{split}.json", {"_via_settings": {}, "_via_img_metadata": metadata})


def write_yolo(truth, folder):
    for name, image in truth.items():
        lines = []
        for label, polygons in image["objects"]:
            values = [v / image["size"][i % 2] for i, v in enumerate(polygons[0])]
            lines.append(" ".join([str(CLASSES.index(label)), *map(repr, values)]))
        path = folder / name.replace("images", "labels").replace(".png", ".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(lines))
    names = "\n".join(f"  {i}: {name}" for i, name in enumerate(CLASSES))
    text = f"train: ../train/images\nval: ../val/images\nnc: 3\nnames:\n{names}\n"
    (folder / "data.yaml").write_text(text)


def _text(parent, tag, value, **attributes):
    element = ET.SubElement(parent, tag, {key: str(v) for key, v in attributes.items()})
    element.text = None if value is None else str(value)
    return element


def write_voc(truth, folder):
    """With polygons as Roboflow writes them."""
    for name, image in truth.items():
        root = ET.Element("annotation")
        _text(root, "filename", name.split("/")[-1])
        size = _text(root, "size", None)
        for key, value in zip(("width", "height"), image["size"], strict=True):
            _text(size, key, value)
        for label, polygons in image["objects"]:
            element = _text(root, "object", None)
            _text(element, "name", label)
            box = _text(element, "bndbox", None)
            for key, value in zip(
                ("xmin", "ymin", "xmax", "ymax"), boxes_around(polygons), strict=True
            ):
                _text(box, key, value)
            polygon = _text(element, "polygon", None)
            for index, (x, y) in enumerate(pairs(polygons[0]), 1):
                _text(polygon, f"x{index}", x)
                _text(polygon, f"y{index}", y)
        ET.ElementTree(root).write((folder / name).with_suffix(".xml"))


def write_cvat(truth, folder):
    for split in ("train", "val"):
        root = ET.Element("annotations")
        labels = _text(_text(_text(root, "meta", None), "task", None), "labels", None)
        for label in CLASSES:
            _text(_text(labels, "label", None), "name", label)
        for index, (name, image) in enumerate(of_split(truth, split).items()):
            width, height = image["size"]
            keys = {"id": index, "name": name.split("/")[-1], "width": width, "height": height}
            element = _text(root, "image", None, **keys, subset=split)
            for label, polygons in image["objects"]:
                points = ";".join(f"{x:.2f},{y:.2f}" for x, y in pairs(polygons[0]))
                _text(element, "polygon", None, label=label, points=points, occluded=0)
        ET.ElementTree(root).write(folder / f"{split}.xml", encoding="utf-8", xml_declaration=True)


WRITERS = {
    "coco, Roboflow": write_roboflow,
    "coco, CVAT": write_cvat_coco,
    "coco, Label Studio": write_label_studio,
    "coco, FiftyOne": write_fiftyone,
    "coco, Datumaro": write_datumaro,
    "labelme": write_labelme,
    "via": write_via,
    "yolo": write_yolo,
    "voc": write_voc,
    "cvat": write_cvat,
}


def png(mask):
    """A mask as the text of a PNG, as LabelMe stores it."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


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
    """How often each kind of change was made."""
    return {change["kind"]: change["count"] for change in summary["changes"]}


def ask(data, folder, **options):
    """Imports a folder whose annotations these are."""
    (folder / "labels.json").write_text(json.dumps(data))
    return import_export(folder, folder.parent / "out", **options)
