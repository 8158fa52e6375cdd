"""COCO and LVIS JSON, as Roboflow, CVAT, Label Studio, Datumaro, FiftyOne and others write it."""

from pathlib import Path

from gol.data.annotations import SECTIONS
from gol.data.imports.export import Export, Labels, split_of
from gol.data.imports.findings import Findings


def find(export: Export) -> list[Path]:
    """The files with the sections of the schema."""
    return [path for path in export.files(".json") if _is_coco(export.json(path))]


def _is_coco(content: object) -> bool:
    if not isinstance(content, dict) or not all(key in content for key in SECTIONS):
        return False
    # COCO's panoptic files lie beside the others; what they are of is in pictures.
    listed = content["annotations"]
    first = listed[0] if isinstance(listed, list) and listed else None
    return not (isinstance(first, dict) and "segments_info" in first)


def read(export: Export, files: list[Path], findings: Findings) -> list[Labels]:
    """One entry for each file; its name or its folders' names say the split."""
    found = []
    for path in files:
        name, content = export.name(path), export.json(path)
        for key in SECTIONS:
            if not isinstance(content[key], list):
                findings.add("malformed label", f"{name}: {key} is no list")
        lists = (content[key] if isinstance(content[key], list) else [] for key in SECTIONS)
        found.append(Labels(name, split_of(name), *lists, has_ids=True))
    return found
