"""Pascal VOC: XML for each image, with polygons (Roboflow), or instances in SegmentationObject."""

from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

import numpy as np
from PIL import Image

from gol.data.images import MOST_PIXELS
from gol.data.imports.export import MASK_FOLDERS, Export, Labels, split_of
from gol.data.imports.findings import Findings
from gol.data.imports.shapes import box, iou, pasted
from gol.data.imports.values import flag, number, numbers

_VOID = {"index": (0, 255), "colour": (0, 0xE0E0C0)}  # background, and the border of objects
_OVERLAP = 0.5  # IoU of an object's box and its instance's


def find(export: Export) -> list[Path]:
    """The files with VOC's root element."""
    return [path for path in export.files(".xml") if _is_voc(export.xml(path))]


def _is_voc(root: Element | None) -> bool:
    return root is not None and root.tag == "annotation"


def read(export: Export, files: list[Path], findings: Findings) -> list[Labels]:
    """One entry for each split, which ``ImageSets`` or the folders' names say."""
    listed, masks = _image_sets(export), _instances(export)
    splits: dict[str | None, Labels] = {}
    for path in files:
        split = listed.get(path.stem) or split_of(export.name(path.parent))
        labels = splits.setdefault(split, Labels(export.name(path.parent), split))
        root, name = export.xml(path), str(export.name(path))
        _read(root, path.stem, name, masks.get(path.stem), labels, findings)
    names = sorted({a["category_id"] for part in splits.values() for a in part.annotations})
    return [labels.name_classes(names) for labels in splits.values()]


def _image_sets(export: Export) -> dict[str, str]:
    """The split of every image that a list names; those for segmentation go before."""
    found: dict[str, str] = {}
    for path in sorted(export.files(".txt"), key=lambda path: path.parent.name == "Segmentation"):
        split = split_of(PurePosixPath(path.stem))
        if path.parent.parent.name == "ImageSets" and split:
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            found |= {line.split()[0]: split for line in lines if line.strip()}
    return found


def _instances(export: Export) -> dict[str, Path]:
    """The picture of the instances of every image that has one."""
    paths = export.files(".png")
    return {path.stem: path for path in paths if path.parent.name == MASK_FOLDERS[1]}


def _read(
    root: Element, stem: str, where: str, masks: Path | None, labels: Labels, findings: Findings
) -> None:
    size = {key: root.findtext(f"size/{key}") for key in ("width", "height")}
    # The devkit's own files, and no tool's, count pixels from 1.
    first = 1 if root.findtext("source/database", "").startswith("The VOC") else 0
    image = labels.add_image(root.findtext("filename") or stem, **size)
    objects: list[tuple[str, dict[str, Any]]] = []
    for index, element in enumerate(root.iterfind("object")):
        name = element.findtext("name", "").strip()
        corners = [element.findtext(f"bndbox/{key}") for key in ("xmin", "ymin", "xmax", "ymax")]
        values = numbers(corners)
        if not name or values is None:
            findings.add("malformed label", f"{where}: object {index} without a name or a box")
            continue
        keys: dict[str, Any] = {"bbox": box(values[0] - first, values[1] - first, *values[2:])}
        if flag(element.findtext("difficult")):  # VOC does not count it
            keys["ignore"] = 1
        if polygon := _polygon(element.find("polygon")):
            keys["segmentation"] = [polygon]
        objects.append((name, keys))
    if masks:
        _add_masks(masks, [keys for _, keys in objects], where, findings)
    for name, keys in objects:
        labels.add(image, name, **keys)


def _polygon(element: Element | None) -> list[float]:
    """Points that are named x1, y1, x2, y2, ..."""
    values = {} if element is None else {child.tag: number(child.text) for child in element}
    points: list[float] = []
    for place in count(1):
        pair = [values.get(f"{axis}{place}") for axis in "xy"]
        if None in pair:
            break
        points += pair  # type: ignore[arg-type]
    return points


def _add_masks(path: Path, objects: list[dict[str, Any]], where: str, findings: Findings) -> None:
    """Gives every object without a polygon the instance whose box overlaps its own most."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"{picture.width} x {picture.height} px are too many")
            indexed = picture.mode in ("P", "L")
            pixels = np.asarray(picture if indexed else picture.convert("RGB")).astype(np.int64)
    except Exception as error:  # Pillow's readers raise all kinds of them
        findings.add("malformed mask", f"{path}: {error}")
        return
    if not indexed:
        pixels = pixels @ (1 << 16, 1 << 8, 1)
    height, width = pixels.shape
    for value in np.setdiff1d(pixels, _VOID["index" if indexed else "colour"]):
        instance = pixels == value
        rows, columns = np.flatnonzero(instance.any(1)), np.flatnonzero(instance.any(0))
        bounds = box(columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        free = [keys for keys in objects if "segmentation" not in keys]
        best = max(free, key=lambda keys: iou(keys["bbox"], bounds), default=None)
        if best is None or iou(best["bbox"], bounds) < _OVERLAP:
            findings.add("malformed mask", f"{path}: no object of {where} fits instance {value}")
        else:
            best["segmentation"] = pasted(instance, 0, 0, width, height)
