"""VGG Image Annotator's JSON, of version 1 and 2 (robots.ox.ac.uk/~vgg/software/via)."""

from pathlib import Path
from typing import Any

from gol.data.imports.export import Export, Labels, split_of
from gol.data.imports.findings import Findings
from gol.data.imports.shapes import ellipse, flat
from gol.data.imports.values import numbers
from gol.errors import UserError, choices, unknown


def find(export: Export) -> list[Path]:
    """The files with VIA's list of images, as a project or as exported annotations."""
    return [path for path in export.files(".json") if any(map(_fits, _entries(export.json(path))))]


def _entries(content: object) -> list[Any]:
    if not isinstance(content, dict):
        return []
    content = content.get("_via_img_metadata", content)
    return list(content.values()) if isinstance(content, dict) else []


def _fits(entry: object) -> bool:
    """Whether it names an image and lists its regions; version 1 numbers them."""
    if not isinstance(entry, dict) or not isinstance(entry.get("filename"), str):
        return False
    return "regions" in entry and isinstance(entry["regions"], list | dict | None)


def read(
    export: Export, files: list[Path], findings: Findings, class_key: str | None = None
) -> list[Labels]:
    """One entry for each file; its name or its folders' names say the split.

    Args:
        export: the export.
        files: from :func:`find`.
        findings: for what is changed.
        class_key: the region attribute that names the class; needed if there are several.

    Raises:
        UserError: several region attributes may name the class.
    """
    listed = {path: _entries(export.json(path)) for path in files}
    fitting = [e for entries in listed.values() for e in entries if _fits(e)]
    every = [region for entry in fitting for region in _regions(entry)]
    keys = sorted({key for region in every for key in _attributes(region)})
    if class_key is None and len(keys) > 1:
        raise UserError(
            f"regions have the attributes {choices(keys)}: --class-key says which is the class"
        )
    if class_key is not None and class_key not in keys:
        raise unknown("region attribute", class_key, keys, "--class-key")
    found = []
    for path, entries in listed.items():
        name = export.name(path)
        labels = Labels(name, split_of(name))
        for index, entry in enumerate(entries):
            if _fits(entry):
                _read(entry, class_key or next(iter(keys), ""), labels, findings)
            else:
                findings.add("malformed label", f"{name}: image {index} has no name or regions")
        found.append(labels)
    names = sorted({a["category_id"] for part in found for a in part.annotations})
    return [labels.name_classes(names) for labels in found]


def _regions(entry: dict[str, Any]) -> list[Any]:
    regions = entry["regions"]
    return list(regions.values()) if isinstance(regions, dict) else list(regions or ())


def _attributes(region: Any) -> dict[str, Any]:
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    return attributes if isinstance(attributes, dict) else {}


def _read(entry: dict[str, Any], class_key: str, labels: Labels, findings: Findings) -> None:
    image = labels.add_image(entry["filename"])
    for index, region in enumerate(_regions(entry)):
        where = f"{entry['filename']}: region {index}"
        name = _class(_attributes(region).get(class_key))
        if name is None and class_key:
            findings.add("malformed label", f"{where} has no single {class_key}")
            continue
        if name is None:
            findings.add("regions without a class", where)
        shape = region.get("shape_attributes") if isinstance(region, dict) else None
        keys = _shape(shape if isinstance(shape, dict) else {}, where, findings)
        if keys:
            labels.add(image, name or "object", **keys)


def _class(value: Any) -> str | None:
    """The class; of checkboxes the one that is ticked."""
    if isinstance(value, dict):
        ticked = [key for key, on in value.items() if on]
        value = ticked[0] if len(ticked) == 1 else None
    text = str(value).strip() if isinstance(value, str | int) else ""
    return text or None


def _shape(shape: dict[str, Any], where: str, findings: Findings) -> dict[str, Any] | None:
    kind = shape.get("name")
    if kind == "polygon":
        xs, ys = numbers(shape.get("all_points_x")), numbers(shape.get("all_points_y"))
        if xs is not None and ys is not None and len(xs) == len(ys):
            return {"segmentation": [flat(list(zip(xs, ys, strict=True)))]}
    elif kind == "rect":
        values = numbers([shape.get(key) for key in ("x", "y", "width", "height")])
        if values is not None:
            return {"bbox": values}
    elif kind in ("circle", "ellipse"):
        radii = ("r", "r") if kind == "circle" else ("rx", "ry")
        values = numbers([shape.get(key, 0) for key in ("cx", "cy", *radii, "theta")])
        if values is not None:
            findings.add("circle or ellipse", where)
            return {"segmentation": [ellipse(*values)]}
    else:
        findings.add("point, line or other shape without an area", f"{where} is a {kind}")
        return None
    findings.add("malformed label", f"{where} is a {kind} with values that are no numbers")
    return None
