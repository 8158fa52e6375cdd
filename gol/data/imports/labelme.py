"""LabelMe's JSON, one file for each image (github.com/wkentaro/labelme)."""

import base64
import binascii
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gol.data.imports.export import Export, Labels, split_of
from gol.data.imports.findings import Findings
from gol.data.imports.shapes import box, ellipse, flat, pasted
from gol.data.imports.values import whole

_KEYS = {"shapes", "imagePath", "imageWidth", "imageHeight"}


def find(export: Export) -> list[Path]:
    """The files with an image and shapes, or what else makes LabelMe's."""
    return [path for path in export.files(".json") if _is_labelme(export.json(path))]


def _is_labelme(content: object) -> bool:
    return isinstance(content, dict) and len(_KEYS & content.keys()) > 1


def read(export: Export, files: list[Path], findings: Findings) -> list[Labels]:
    """One entry for each split, which the folders' names say."""
    splits: dict[str | None, Labels] = {}
    for path in files:
        split = split_of(export.name(path.parent))
        labels = splits.setdefault(split, Labels(export.name(path.parent), split))
        _read(export.json(path), export.name(path).as_posix(), labels, findings)
    names = sorted({a["category_id"] for part in splits.values() for a in part.annotations})
    return [labels.name_classes(names) for labels in splits.values()]


def _read(content: dict[str, Any], where: str, labels: Labels, findings: Findings) -> None:
    if not isinstance(content.get("shapes"), list):
        findings.add("malformed label", f"{where} has no list of shapes")
        return
    # The image may have been moved beside its labels: the name alone is certain.
    name = content.get("imagePath")
    name = name if isinstance(name, str) and name else Path(where).stem
    size = {"width": content.get("imageWidth"), "height": content.get("imageHeight")}
    image = labels.add_image(name, **size)
    groups: dict[tuple[str, int], list] = {}
    for index, shape in enumerate(content["shapes"]):
        place = f"{where}: shapes[{index}]"
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label.strip():
            findings.add("malformed label", f"{place} has no label")
            continue
        keys = _shape(shape, image, place, findings)
        if keys is None:
            continue
        group, polygons = whole(shape.get("group_id")), keys.get("segmentation")
        if group is None or not isinstance(polygons, list):
            labels.add(image, label, **keys)
        elif (label, group) in groups:  # shapes of one group are parts of one object
            groups[label, group] += polygons
        else:
            groups[label, group] = polygons
            labels.add(image, label, **keys)


def _shape(
    shape: dict[str, Any], image: dict[str, Any], where: str, findings: Findings
) -> dict[str, Any] | None:
    """The keys of an object's annotation, or None for what has no area or is wrong."""
    points, kind = flat(shape.get("points")), shape.get("shape_type", "polygon")
    if points is None:
        findings.add("malformed label", f"{where} has points that are no numbers")
    elif kind == "polygon":
        return {"segmentation": [points]}
    elif kind == "rectangle" and len(points) == 4:
        return {"bbox": box(*points)}
    elif kind == "circle" and len(points) == 4:
        x, y, on_x, on_y = points
        radius = float(np.hypot(on_x - x, on_y - y))
        findings.add("circle or ellipse", where)
        return {"segmentation": [ellipse(x, y, radius, radius)]}
    elif kind == "mask" and len(points) == 4:
        return _mask(shape.get("mask"), points, image, where, findings)
    else:
        findings.add("point, line or other shape without an area", f"{where} is a {kind}")
    return None


def _mask(
    text: Any, points: list[float], image: dict[str, Any], where: str, findings: Findings
) -> dict[str, Any] | None:
    """A PNG whose corner lies on the first point."""
    try:
        data = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        part = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        width, height = whole(image["width"]), whole(image["height"])
        if part is None or not width or not height:
            raise ValueError("no PNG, or no image size")
        left, top = round(min(points[::2])), round(min(points[1::2]))
        return {"segmentation": pasted(part, left, top, width, height)}
    except (TypeError, ValueError, binascii.Error, cv2.error) as error:
        findings.add("malformed mask", f"{where}: {error}")
        return None
