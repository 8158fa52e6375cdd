"""COCO and LVIS JSON, as Roboflow, CVAT, Label Studio, Datumaro, FiftyOne and others write it."""

from pathlib import Path

from gol.data.annotations import SECTIONS
from gol.data.imports.export import Export, Labels, split_of
from gol.data.imports.findings import Findings


def find(export: Export) -> list[Path]:
    """The files with the lists of the schema."""
    return [path for path in export.files(".json") if _is_coco(export.json(path))]


def _is_coco(content: object) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(key), list) for key in SECTIONS)


def read(export: Export, files: list[Path], findings: Findings) -> list[Labels]:
    """One entry for each file; its name or its folders' names say the split."""
    found = []
    for path in files:
        name, content = export.name(path), export.json(path)
        found.append(Labels(name, split_of(name), *(content[key] for key in SECTIONS), True))
    return found
