"""What a prepared dataset holds, and what does not count of its files, in numbers and words."""

from collections import Counter
from dataclasses import asdict
from typing import Any

from gol.data.annotations import Problem
from gol.data.images import MIN_SIDE
from gol.data.objects import is_object
from gol.data.prepared import SPLITS
from gol.errors import first_few, plural
from gol.groups import GROUPS


def groups(categories: list[dict]) -> dict[str, int]:
    """The number of classes in each of the groups r, c and f."""
    counts = Counter(category["frequency"] for category in categories)
    return {group: counts[group] for group in GROUPS}


def is_small(image: dict) -> bool:
    """Whether training leaves an image out."""
    return min(image["width"], image["height"]) < MIN_SIDE


def describe(
    data: dict[str, Any], problems: list[Problem], categories: list[dict]
) -> dict[str, Any]:
    """What a split holds; besides images and objects all that is there and does not count.

    ``crowds`` and ``ignored`` are annotations that are no objects, ``small_images`` those with a
    side under ``MIN_SIDE``, which training leaves out with their ``objects_in_small_images``, as
    it does the ``thin_objects`` of less than 1 px.
    """
    objects = [a for a in data["annotations"] if is_object(a)]
    present = {a["category_id"] for a in objects}
    small = {image["id"] for image in data["images"] if is_small(image)}
    return {
        "images": len(data["images"]),
        "images_without_object": len(data["images"]) - len({a["image_id"] for a in objects}),
        "objects": len(objects),
        "crowds": sum(bool(a["iscrowd"]) for a in data["annotations"]),
        "ignored": sum(bool(a.get("ignore")) for a in data["annotations"]),
        "small_images": len(small),
        "objects_in_small_images": sum(a["image_id"] in small for a in objects),
        "thin_objects": sum(min(a["bbox"][2:]) < 1 for a in objects),
        "classes_with_objects": groups([c for c in categories if c["id"] in present]),
        "classes_without_object": [c["name"] for c in categories if c["id"] not in present],
        "problems": [asdict(problem) for problem in problems],
    }


def text(summary: dict[str, Any]) -> str:
    """A summary of both splits for people."""

    def named(counts: dict[str, int]) -> str:
        return ", ".join(f"{count} {GROUPS[group]}" for group, count in counts.items())

    classes = plural(sum(summary["classes"].values()), "class")
    lines = [f"{classes}: {named(summary['classes'])}"]
    for split in SPLITS:
        part = summary[split]
        lines.append(
            f"{split}: {plural(part['objects'], 'object')} in "
            f"{plural(part['images'], 'image')} ({part['images_without_object']} without); "
            f"classes with objects: {named(part['classes_with_objects'])}"
        )
        lines += [f"{split}: {loss}" for loss in _losses(part, split)]
        lines += [
            f"{split}: {p['count']} x {p['kind']} ({p['severity']}), as {p['examples'][0]}"
            for p in part["problems"]
        ]
    return "\n".join(lines)


def _losses(part: dict[str, Any], split: str) -> list[str]:
    """In words, what a split's file holds that does not count."""
    lines = []
    if part["crowds"]:
        crowds = plural(part["crowds"], "crowd region")
        lines.append(f"{crowds} (iscrowd), not counted as objects")
    if part["ignored"]:
        ignored = plural(part["ignored"], "annotation")
        lines.append(f"{ignored} to be ignored (ignore), not counted as objects")
    if part["small_images"] and split == "train":
        lines.append(
            f"left out of training for a side under {MIN_SIDE} px: {part['small_images']} of "
            f"{plural(part['images'], 'image')}, with "
            f"{plural(part['objects_in_small_images'], 'object')}"
        )
    if part["thin_objects"] and split == "train":
        thin = plural(part["thin_objects"], "object")
        lines.append(f"{thin} under 1 px, which training leaves out")
    if names := part["classes_without_object"]:
        lines.append(f"{plural(len(names), 'class')} without an object: {first_few(names)}")
    return lines
