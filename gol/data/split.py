"""``gol split``: divides annotations into train and val so that every class that can be is in both.

Images that belong together stay together. Which groups go to val is first drawn class by class, the
rarest first, each class's images shared out as the images are (iterative stratification: Sechidis
et al., ECML PKDD 2011). Then groups change sides while a class is missing from one (as WalkSAT does
with clauses), and while the number of val images comes nearer to the share that was asked for.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

from gol.data.annotations import SECTIONS, load_annotations
from gol.data.imports.output import check_own, write_own
from gol.data.imports.values import flag, id_key
from gol.data.objects import plain
from gol.errors import UserError, choices, first_few, shown
from gol.files import uncollected

#: Keys that tools give images of one video or place.
GROUP_KEYS = ("video_id", "video", "sequence", "sequence_id", "scene", "location", "place")
_REPORT = "split.json"
_COUNTED = ("frequency", "image_count", "instance_count")
_COPY = re.compile(r"\.rf\.[0-9a-zA-Z]+(?=\.\w+$)")  # Roboflow's mark of augmented copies
_FAR = 0.02  # share of the images that is worth a word
_STEPS = 2000  # of the search for a division that has all classes on both sides


class Division:
    """Groups of images, and which of them are in val.

    Args:
        classes: the classes of each group.
        sizes: number of images of each group.
        share: of the images that is to be in val.
        random: draws.
    """

    def __init__(
        self, classes: list[set[Any]], sizes: list[int], share: float, random: Random
    ) -> None:
        self.classes, self.sizes, self.random = classes, sizes, random
        self.wanted = max(1, round(share * sum(sizes)))
        self.share = share
        self.groups: dict[Any, list[int]] = defaultdict(list)
        for group, present in enumerate(classes):
            for kind in present:
                self.groups[kind].append(group)
        self.val = [False] * len(sizes)
        self.counts: Counter[Any] = Counter()  # groups of each class in val

    def find(self) -> list[bool]:
        """Whether each group is in val."""
        self._draw()
        self._complete()
        self._balance()
        return self.val

    def missing(self) -> list[Any]:
        """The classes of two or more groups that are not on both sides."""
        return [kind for kind, groups in self.groups.items() if self._lacks(kind, len(groups))]

    def _lacks(self, kind: Any, total: int) -> bool:
        # A class of one group belongs to train.
        return self.counts[kind] in (0, total) if total > 1 else self.counts[kind] == 1

    def _move(self, group: int) -> None:
        self.val[group] = not self.val[group]
        for kind in self.classes[group]:
            self.counts[kind] += 1 if self.val[group] else -1

    def _rarity(self, kind: Any) -> tuple[int, bool, Any]:
        return len(self.groups[kind]), isinstance(kind, str), kind  # ids may be of both types

    def _draw(self) -> None:
        order = list(range(len(self.sizes)))
        self.random.shuffle(order)
        rank = {group: place for place, group in enumerate(order)}
        open_groups = set(order)
        for kind in sorted(self.groups, key=self._rarity):
            groups = self.groups[kind]
            wanted = max(1, round(self.share * len(groups))) if len(groups) > 1 else 0
            for group in sorted(open_groups.intersection(groups), key=rank.__getitem__):
                open_groups.remove(group)
                if self.counts[kind] < wanted:
                    self._move(group)

    def _complete(self) -> None:
        """Moves groups of classes that are missing from a side, at best without loss elsewhere."""
        missing = self.missing()
        best, least = list(self.val), len(missing)
        for _ in range(_STEPS):
            if not missing:
                return
            groups = self.groups[self.random.choice(missing)]
            # Seldom one at random, so that it does not stay where no single move helps.
            if self.random.random() < 0.1:
                self._move(self.random.choice(groups))
            else:
                self._move(min(groups, key=lambda group: (self._loss(group), self.random.random())))
            missing = self.missing()
            if len(missing) < least:
                best, least = list(self.val), len(missing)
        for group, there in enumerate(best):
            if self.val[group] != there:
                self._move(group)

    def _loss(self, group: int) -> int:
        """How many classes more would miss a side if the group moved."""
        before = sum(self._lacks(kind, len(self.groups[kind])) for kind in self.classes[group])
        self._move(group)
        after = sum(self._lacks(kind, len(self.groups[kind])) for kind in self.classes[group])
        self._move(group)
        return after - before

    def _balance(self) -> None:
        """Moves groups that no class needs where they are, while that brings the share nearer."""
        order = list(range(len(self.sizes)))
        self.random.shuffle(order)
        order.sort(key=lambda group: len(self.classes[group]))  # those that are needed least
        count, moving = self._images_in_val(), True
        while moving:
            moving = False
            for group in order:
                moved = count + self.sizes[group] * (-1 if self.val[group] else 1)
                nearer = abs(moved - self.wanted) < abs(count - self.wanted)
                if nearer and self._loss(group) <= 0:
                    self._move(group)
                    count, moving = moved, True

    def _images_in_val(self) -> int:
        return sum(size for size, there in zip(self.sizes, self.val, strict=True) if there)


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
            twice and augmented copies of one image always do.

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
        "classes_of_one_group": _names(data, (k for k, g in division.groups.items() if len(g) < 2)),
        "classes_not_in_both": _names(data, division.missing()),
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
        shared = {"file": _COPY.sub("", str(name)) if name else None, "key": image.get(by or "")}
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
    """What to say where val is not as large as was asked for."""
    val = len(parts["val"]["images"])
    reached = val / (val + len(parts["train"]["images"]))
    if abs(reached - share) < _FAR:
        return []
    return [f"val has {reached:.0%} of the images, not {share:.0%}: classes and groups need it"]


def _notes(data: dict[str, Any], by: str | None) -> list[str]:
    """What may leak from train to val."""
    notes = []
    if by:
        without = sum(image.get(by) is None for image in data["images"])
        if without:
            notes.append(f"{without} images have no {by}: only copies of one file stay together")
    for key in GROUP_KEYS:
        if key == by:
            continue
        values = [str(image[key]) for image in data["images"] if image.get(key) is not None]
        if len(set(values)) < len(values):
            shared = f"{len(values)} images share {len(set(values))} values of {key}"
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
        f"{targets[name]}: {part['objects']} objects of {part['classes']} classes in "
        f"{part['images']} images"
        for name, part in summary["splits"].items()
    ]
    reasons = {
        "classes_of_one_group": "are in one image or group only, and so in train alone",
        "classes_not_in_both": "are not in both, though they are in several images",
    }
    for key, reason in reasons.items():
        if names := summary[key]:
            lines.append(f"{len(names)} classes {reason}: {first_few(names)}")
    return "\n".join([*lines, *summary["notes"]])
