"""``gol split``: divides annotations into train and val so that every class that can be is in both.

Images that belong together stay together; :mod:`gol.data.division` says how the rest is drawn.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from gol.data.annotations import SECTIONS, load_annotations
from gol.data.division import ONE_SIDED, Division, wanted
from gol.data.imports.copies import copies
from gol.data.imports.output import check_own, write_own
from gol.data.imports.values import flag, id_key
from gol.data.objects import plain
from gol.errors import UserError, choices, first_few, plural, shown
from gol.files import uncollected

#: Keys that tools give images of one video or place.
GROUP_KEYS = ("video_id", "video", "sequence", "sequence_id", "scene", "location", "place")
_REPORT = "split.json"
_COUNTED = ("frequency", "image_count", "instance_count")
_COPY = re.compile(r"\.rf\.[0-9a-zA-Z]+(?=\.\w+$)")  # Roboflow's mark of augmented copies
_FAR = 0.02  # share of the images that is worth a word


@uncollected()
def split_annotations(
    file: str | Path, out: str | Path, share: float = 0.2, seed: int = 0, by: str | None = None
) -> dict[str, Any]:
    """Writes ``train.json`` and ``val.json`` of an annotation file of the LVIS or COCO schema.

    Classes are the same in both. Their frequencies and counts, which were those of the whole file,
    are left out: ``gol preprocess`` counts anew.

    Args:
        file: the annotations.
        out: folder to write to.
        share: of the images that is to be in val.
        seed: of what is drawn.
        by: key of the images; those with the same value stay together. Files that are named
            twice, augmented copies of one image and, where `gol import` wrote the file, pictures
            of the same content always do.

    Returns:
        What ``split.json`` holds: counts of both, the classes that are not in both and why, the
        folder of the images if `gol import` noted it, and under ``text`` a summary to print.

    Raises:
        UserError: the file is not of the schema, there are fewer than two groups, or ``out`` holds
            the file itself or somebody's own.
    """
    file, out = Path(file), Path(out)
    data = load_annotations(file)
    targets = {split: out / f"{split}.json" for split in ("train", "val")}
    if file.resolve() in [target.resolve() for target in targets.values()]:
        raise UserError(f"{file} would be overwritten: give another folder than {out}")
    names = [target.name for target in targets.values()]
    check_own(out, names, _REPORT, "gol split")
    groups = _groups(data, file, by)
    if len(groups) < 2:
        raise UserError(f"{file}: all images are of one group: nothing can be divided")
    present = _classes(data, file)
    classes = [{kind for i in images for kind in present.get(i, ())} for images in groups.values()]
    division = Division(classes, [len(images) for images in groups.values()], share, Random(seed))
    chosen = zip(groups.values(), division.find(), strict=True)
    val = {image for images, there in chosen if there for image in images}
    parts = {"train": _part(data, val, False), "val": _part(data, val, True)}
    for name, part in parts.items():
        if not part["images"]:
            raise UserError(f"{file}: {name} would be empty: too few images share their classes")
    summary = {
        "source": str(file),
        "seed": seed,
        "by": by,
        "groups": len(groups),
        "splits": {name: _describe(part) for name, part in parts.items()},
        **{key: _names(data, kinds) for key, kinds in division.one_sided().items()},
        "notes": [*_far(parts, share), *_notes(data, by)],
    }
    summary |= {"images": _image_folder(file), "text": _text(summary, targets)}
    files = {targets[name].name: part for name, part in parts.items()}
    try:
        write_own(out, names, files, _REPORT, summary, "gol split")
    except ValueError as error:
        raise UserError(f"{file}: a segmentation has NaN: `gol import` mends that") from error
    return summary


def _groups(data: dict[str, Any], file: Path, by: str | None) -> dict[Any, list[Any]]:
    """The images' ids by the first one of those that stay together, through others too."""
    same = _same_pictures(data, file)
    first: dict[Any, Any] = {}  # towards the first one: of an image, or of what several share
    known = set()

    def find(item: Any) -> Any:
        while first.setdefault(item, item) != item:
            first[item] = item = first[first[item]]
        return item

    for index, image in enumerate(data["images"]):
        identity = id_key(image.get("id")) if isinstance(image, dict) else None
        if identity is None or identity in known:
            raise UserError(
                f"{file}: images[{index}] has no id of its own: `gol import` mends that"
            )
        known.add(identity)
        name = image.get("file_name") or image.get("coco_url")
        shared = {
            "file": _COPY.sub("", str(name)) if name else None,
            "content": same.get(str(name), name),
            "key": image.get(by or ""),
        }
        for kind, value in shared.items():
            if value is not None and value == value:  # nor NaN
                first[find(("image", identity))] = find((kind, str(value)))
    if by and all(by not in image for image in data["images"]):
        keys = sorted({key for image in data["images"] for key in image} - {"id"})
        raise UserError(f"{file}: no image has the key {shown(by)}; there are {choices(keys)}")
    groups: dict[Any, list[Any]] = defaultdict(list)
    for image in data["images"]:
        identity = id_key(image["id"])
        groups[find(("image", identity))].append(identity)
    return groups


def _same_pictures(data: dict[str, Any], file: Path) -> dict[str, str]:
    """Names of images to that of the first one with the same content, where these are known."""
    folder = _image_folder(file)
    if folder is None:
        return {}
    names = [image.get("file_name") for image in data["images"] if isinstance(image, dict)]
    paths = {Path(folder, name): name for name in names if isinstance(name, str)}
    return {paths[path]: paths[first] for path, first in copies(paths).items()}


def _classes(data: dict[str, Any], file: Path) -> dict[Any, set[Any]]:
    """The classes of the objects in each image."""
    present: dict[Any, set[Any]] = defaultdict(set)
    kinds, images = (
        {id_key(entry.get("id")) for entry in data[section] if isinstance(entry, dict)}
        for section in ("categories", "images")
    )
    if None in kinds or not all(isinstance(entry, dict) for entry in data["categories"]):
        raise UserError(f"{file}: a category has no id: `gol import` mends that")
    for index, annotation in enumerate(data["annotations"]):
        keys = annotation if isinstance(annotation, dict) else {}
        for key, known in (("image_id", images), ("category_id", kinds)):
            if id_key(keys.get(key)) not in known:
                raise UserError(f"{file}: annotations[{index}] has {key} {shown(keys.get(key))}")
        if _is_object(keys):
            present[id_key(keys["image_id"])].add(id_key(keys["category_id"]))
    return present


def _is_object(annotation: dict[str, Any]) -> bool:
    """As :func:`gol.data.objects.is_object`, of flags as tools write them."""
    return not (flag(annotation.get("iscrowd")) or flag(annotation.get("ignore")))


def _part(data: dict[str, Any], val: set[Any], inside: bool) -> dict[str, Any]:
    images = [image for image in data["images"] if (id_key(image["id"]) in val) == inside]
    ids = {id_key(image["id"]) for image in images}
    categories = [
        {key: value for key, value in category.items() if key not in _COUNTED}
        for category in data["categories"]
    ]
    annotations = [
        # Coordinates are most of the file: they are not copied.
        {key: value if key == "segmentation" else plain(value) for key, value in entry.items()}
        for entry in data["annotations"]
        if id_key(entry["image_id"]) in ids
    ]
    rest = {key: value for key, value in data.items() if key not in SECTIONS}
    sections = {
        "images": plain(images),
        "annotations": annotations,
        "categories": plain(categories),
    }
    return plain(rest) | sections


def _describe(part: dict[str, Any]) -> dict[str, int]:
    objects = [a for a in part["annotations"] if _is_object(a)]
    classes = {id_key(a["category_id"]) for a in objects}
    return {"images": len(part["images"]), "objects": len(objects), "classes": len(classes)}


def _names(data: dict[str, Any], kinds: Iterable[Any]) -> list[str]:
    names = {id_key(category["id"]): category.get("name") for category in data["categories"]}
    return sorted(str(names[kind]) for kind in kinds)


def _far(parts: dict[str, dict[str, Any]], share: float) -> list[str]:
    """What to say where val is not as large as was asked for, but for the rounding."""
    val = len(parts["val"]["images"])
    total = val + len(parts["train"]["images"])
    reached = val / total
    if min(abs(reached - share), abs(val - wanted(share, total)) / total) < _FAR:
        return []
    return [f"val has {reached:.0%} of the images, not {share:.0%}: classes and groups need it"]


def _notes(data: dict[str, Any], by: str | None) -> list[str]:
    """What may leak from train to val."""
    notes = []
    if by:
        without = sum(image.get(by) is None for image in data["images"])
        if without:
            notes.append(
                f"{plural(without, 'image')} without {by}: only copies of one file stay together"
            )
    for key in GROUP_KEYS:
        if key == by:
            continue
        values = [str(image[key]) for image in data["images"] if image.get(key) is not None]
        if len(set(values)) < len(values):
            number = plural(len(set(values)), "value")
            shared = f"{len(values)} images share {number} of {key}"
            notes.append(f"{shared} and may look alike: --by {key} keeps them together")
    return notes


def _image_folder(file: Path) -> str | None:
    """Where `gol import`, if it wrote the file, found the images."""
    try:
        summary = json.loads((file.parent / "import.json").read_text())
        return str(summary["images"]) if file.name in summary["splits"] else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _text(summary: dict[str, Any], targets: dict[str, Path]) -> str:
    lines = [
        f"{targets[name]}: {plural(part['objects'], 'object')} of "
        f"{plural(part['classes'], 'class')} in {plural(part['images'], 'image')}"
        for name, part in summary["splits"].items()
    ]
    for key, reason in ONE_SIDED.items():
        if names := summary[key]:
            lines.append(f"{plural(len(names), 'class')} {reason}: {first_few(names)}")
    return "\n".join([*lines, *summary["notes"]])
