"""Manifests of SageMaker Ground Truth's box jobs: a JSON object on each line."""

import json
from pathlib import Path
from typing import Any

from gol.data.imports.export import Export, Labels, split_of
from gol.data.imports.findings import Findings
from gol.data.imports.values import id_key, numbers

_SIDES = ("left", "top", "width", "height")


def find(export: Export) -> list[Path]:
    """The files of which a line names an image and the boxes on it."""
    paths = export.files(".manifest", ".jsonl")
    return [path for path in paths if any(map(_job, _lines(path)))]


def _lines(path: Path) -> list[Any]:
    """What each line says, None if it is not JSON."""
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [_line(line) for line in text.splitlines() if line.strip()]


def _line(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _job(line: Any) -> str | None:
    """The job whose boxes a line holds."""
    if not isinstance(line, dict) or not isinstance(line.get("source-ref"), str):
        return None
    jobs = (key for key, value in line.items() if isinstance(value, dict))
    return next((key for key in jobs if isinstance(line[key].get("annotations"), list)), None)


def read(export: Export, files: list[Path], findings: Findings) -> list[Labels]:
    """One entry for each file; its name or its folders' names say the split."""
    found = []
    for path in files:
        labels = Labels(export.name(path), split_of(export.name(path)))
        for number, line in enumerate(_lines(path), 1):
            _read(line, f"{labels.source}: line {number}", labels, findings)
        found.append(labels)
    names = sorted({a["category_id"] for part in found for a in part.annotations})
    return [labels.name_classes(names) for labels in found]


def _read(line: Any, where: str, labels: Labels, findings: Findings) -> None:
    job = _job(line)
    if job is None:
        findings.add("malformed label", f"{where} has no image with boxes")
        return
    metadata = line.get(f"{job}-metadata")
    listed = metadata.get("class-map") if isinstance(metadata, dict) else None
    classes = {id_key(k): str(v) for k, v in listed.items()} if isinstance(listed, dict) else {}
    sizes = line[job].get("image_size")
    size = sizes[0] if isinstance(sizes, list) and sizes and isinstance(sizes[0], dict) else {}
    sides = {key: size.get(key) for key in ("width", "height")}
    image = labels.add_image(line["source-ref"], **sides)
    for box in line[job]["annotations"]:
        box = box if isinstance(box, dict) else {}
        name, values = classes.get(id_key(box.get("class_id"))), numbers([*map(box.get, _SIDES)])
        if name and values:
            labels.add(image, name, bbox=values)
        else:
            findings.add("malformed label", f"{where}: a box without its class or its sides")
