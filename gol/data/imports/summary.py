"""What ``gol import`` says of an export: counts of all that is there and all that was changed."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from gol.data.images import MIN_SIDE
from gol.data.imports.findings import Findings
from gol.data.objects import is_object
from gol.errors import first_few, plural

Split = dict[str, list[dict[str, Any]]]


def file_name(split: str | None) -> str:
    """The file of a split, or of an export that names none."""
    return f"{split or 'annotations'}.json"


def summarise(
    facts: dict[str, Any],
    splits: dict[str, Split],
    categories: list[dict[str, Any]],
    findings: Findings,
    out: Path,
) -> dict[str, Any]:
    """What ``import.json`` holds.

    Args:
        facts: source, format and image folder.
        splits: images and annotations by the name of the file that they are written to.
        categories: the classes of all of them.
        findings: what was changed.
        out: folder of the files.
    """
    first = next(iter(splits.values()))
    present = {a["category_id"] for a in first["annotations"] if is_object(a)}
    summary = {
        **facts,
        "classes": len(categories),
        "classes_without_object": [c["name"] for c in categories if c["id"] not in present],
        "splits": {name: _describe(split) for name, split in splits.items()},
        "changes": [asdict(problem) for problem in findings.problems()],
    }
    return {**summary, "text": "\n".join(_lines(summary, out))}


def _describe(split: Split) -> dict[str, int]:
    annotations, images = split["annotations"], split["images"]
    objects = [annotation for annotation in annotations if is_object(annotation)]
    return {
        "images": len(images),
        "images_without_object": len(images) - len({a["image_id"] for a in objects}),
        "small_images": sum(min(i["width"], i["height"]) < MIN_SIDE for i in images),
        "objects": len(objects),
        "crowds": sum(a["iscrowd"] for a in annotations),
        "ignored": sum(bool(a.get("ignore")) for a in annotations),
    }


def _lines(summary: dict[str, Any], out: Path) -> list[str]:
    classes = plural(summary["classes"], "class")
    lines = [f"{summary['format']}: {classes}, images in {summary['images']}"]
    for name, part in summary["splits"].items():
        lost = {
            "crowd regions": part["crowds"],
            "objects to be ignored": part["ignored"],
            f"images with a side under {MIN_SIDE} px, left out of training": part["small_images"],
        }
        more = "".join(f"; {count} {what}" for what, count in lost.items() if count)
        lines.append(
            f"{out / name}: {plural(part['objects'], 'object')} in "
            f"{plural(part['images'], 'image')} ({part['images_without_object']} without){more}"
        )
    first, *_ = summary["splits"]
    if names := summary["classes_without_object"]:
        lines.append(
            f"{plural(len(names), 'class')} without an object in {first}: {first_few(names)}"
        )
    for change in summary["changes"]:
        count, kind, severity = change["count"], change["kind"], change["severity"]
        lines.append(f"{count} x {kind} ({severity}), as {change['examples'][0]}")
    return lines
