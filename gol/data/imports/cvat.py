"""CVAT's own XML 1.1, for images and for videos."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np

from gol.data.imports.export import Export, Labels, split_of
from gol.data.imports.findings import Findings
from gol.data.imports.shapes import box, check_place, ellipse, flat, pasted
from gol.data.imports.values import number, numbers, whole

_NO_AREA = ("points", "polyline", "cuboid", "skeleton")


def find(export: Export) -> list[Path]:
    """The files with CVAT's root element."""
    return [path for path in export.files(".xml") if _is_cvat(export.xml(path))]


def _is_cvat(root: Element | None) -> bool:
    return root is not None and root.tag == "annotations"


def read(export: Export, files: list[Path], findings: Findings) -> list[Labels]:
    """One entry for each file and split; a subset, the file or its folders name the split."""
    found: dict[tuple[Path, str | None], Labels] = {}
    names: list[str] = []
    for path in files:
        name, root = export.name(path), export.xml(path)
        names += [label.findtext("name", "") for label in root.iterfind("meta//label")]
        for keys, subset, shapes in (*_images(root), *_frames(root, name.stem)):
            split = split_of(PurePosixPath(subset)) or split_of(name)
            labels = found.setdefault((path, split), Labels(name, split))
            image = labels.add_image(**keys)
            _read(image, shapes, f"{name}: {image['file_name']}", labels, findings)
    names += sorted({a["category_id"] for part in found.values() for a in part.annotations})
    return [labels.name_classes(filter(None, names)) for labels in found.values()]


Found = tuple[dict[str, Any], str, list[tuple[str, Element]]]


def _images(root: Element) -> Iterator[Found]:
    """Keys, subset and shapes with their labels of every image."""
    for image in root.iterfind("image"):
        keys = {"name": image.get("name", ""), **_size(image.get("width"), image.get("height"))}
        shapes = [(shape.get("label", ""), shape) for shape in image if shape.tag != "tag"]
        yield keys, image.get("subset", ""), shapes


def _frames(root: Element, video: str) -> Iterator[Found]:
    """The same for a video, whose tracks hold a shape for every frame."""
    frames: dict[int, list[tuple[str, Element]]] = {}
    for track in root.iterfind("track"):
        for shape in track:
            frame = whole(shape.get("frame"))
            if frame is not None and shape.get("outside") != "1":
                frames.setdefault(frame, []).append((track.get("label", ""), shape))
    size = root.find("meta//original_size")
    sides = (None, None) if size is None else (size.findtext("width"), size.findtext("height"))
    for frame, shapes in sorted(frames.items()):
        yield {"name": f"frame_{frame:06d}", "video": video, **_size(*sides)}, "", shapes


def _size(width: str | None, height: str | None) -> dict[str, Any]:
    return {"width": width, "height": height}


def _read(
    image: dict[str, Any],
    shapes: list[tuple[str, Element]],
    where: str,
    labels: Labels,
    findings: Findings,
) -> None:
    groups: dict[tuple[str, str], list] = {}
    for label, shape in shapes:
        if not label:
            findings.add("malformed label", f"{where}: a {shape.tag} without a label")
            continue
        keys = _shape(shape, image, where, findings)
        if keys is None:
            continue
        group, polygons = (label, shape.get("group_id", "0")), keys.get("segmentation")
        if group[1] == "0" or not isinstance(polygons, list):
            labels.add(image, label, **keys)
        elif group in groups:  # CVAT joins polygons of a group too when it writes COCO
            groups[group] += polygons
        else:
            groups[group] = polygons
            labels.add(image, label, **keys)


def _shape(
    shape: Element, image: dict[str, Any], where: str, findings: Findings
) -> dict[str, Any] | None:
    """The keys of an object's annotation, or None for what has no area or is wrong."""
    if shape.tag in _NO_AREA:
        findings.add("point, line or other shape without an area", f"{where}: a {shape.tag}")
        return None
    values: list[float] | None = None
    if shape.tag == "polygon":
        values = flat([pair.split(",") for pair in shape.get("points", "").split(";")])
        if values:
            return {"segmentation": [values]}
    elif shape.tag == "box":
        values = numbers([shape.get(key) for key in ("xtl", "ytl", "xbr", "ybr")])
        turn = number(shape.get("rotation", 0))
        if values and turn is not None:
            return _turned(box(*values), np.radians(turn)) if turn else {"bbox": box(*values)}
    elif shape.tag == "ellipse":
        values = numbers([shape.get(key) for key in ("cx", "cy", "rx", "ry")])
        turn = number(shape.get("rotation", 0))
        if values and turn is not None:
            findings.add("circle or ellipse", where)
            return {"segmentation": [ellipse(*values, np.radians(turn))]}
    elif shape.tag == "mask":
        return _mask(shape, image, where, findings)
    findings.add("malformed label", f"{where}: a {shape.tag} with values that are no numbers")
    return None


def _turned(upright: list[float], turn: float) -> dict[str, Any]:
    """A box that is turned around its middle: the box around it, and its corners."""
    x, y, width, height = upright
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * (width / 2, height / 2)
    sine, cosine = np.sin(turn), np.cos(turn)
    corners = corners @ np.array([[cosine, sine], [-sine, cosine]])
    corners += (x + width / 2, y + height / 2)
    bounds = box(*corners.min(0).tolist(), *corners.max(0).tolist())
    return {"bbox": bounds, "corners": corners.ravel().tolist()}


def _mask(
    shape: Element, image: dict[str, Any], where: str, findings: Findings
) -> dict[str, Any] | None:
    """Run lengths along the rows of a part of the image, the first one outside the object."""
    try:
        left, top, columns, rows = (
            _must(shape.get(key)) for key in ("left", "top", "width", "height")
        )
        width, height = (_must(image[key]) for key in ("width", "height"))
        runs = [_must(run) for run in shape.get("rle", "").split(",")]
        if min(runs) < 0 or sum(runs) != rows * columns:
            raise ValueError(f"{len(runs)} runs do not fill {columns} x {rows} px")
        check_place(left, top, columns, rows, width, height)
        part = np.repeat((np.arange(len(runs)) % 2).astype(bool), runs).reshape(rows, columns)
        return {"segmentation": pasted(part, left, top, width, height)}
    except ValueError as error:
        findings.add("malformed mask", f"{where}: {error}")
        return None


def _must(value: Any) -> int:
    found = whole(value)
    if found is None:
        raise ValueError("a value that is no whole number")
    return found
