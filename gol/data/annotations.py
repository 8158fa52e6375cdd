"""Reading and checking annotation files of the LVIS or the COCO schema.

One pass finds every problem and makes the clean copy that the rest of the project reads. An
*error* is for a person to mend: the file and its images do not belong together, or an annotation
makes no sense. What is *repaired* is reported and then handled as :data:`KINDS` says.
"""

import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from gol.data.images import any_size, file_names, find_image, image_problem
from gol.data.objects import LONGEST_SIDE, clean_annotation, plain
from gol.data.packing import shrink
from gol.errors import UserError, choices, shown
from gol.files import read_json
from gol.files.stream import read_json_object
from gol.groups import GROUPS
from gol.progress import progress

SECTIONS = ("images", "annotations", "categories")
KINDS = {
    "missing or wrong key": "error",
    "duplicate image id": "error",
    "duplicate annotation id": "error",
    "duplicate category id": "error",
    "duplicate category name": "error",
    "unknown image": "error",
    "unknown category": "error",
    "box outside the image": "error",
    "mask outside the image": "error",
    "mask without a polygon": "error",
    "RLE that does not fit": "error",
    "missing image file": "error",
    "unreadable image file": "error",
    "image of another size": "error",
    "box up to 1 px outside the image": "repaired: clipped",
    "mask up to 1 px outside the image": "repaired: clipped",
    "degenerate polygon": "repaired: polygon left out",
    "zero area": "repaired: annotation left out",
}
#: Errors that the dataset's key ``drop_bad`` turns into repairs.
DROPPABLE = (
    "box outside the image",
    "mask outside the image",
    "mask without a polygon",
    "RLE that does not fit",
)
_EXAMPLES = 3
_GROUP = 16  # images that a thread takes at once


@dataclass(frozen=True)
class Problem:
    """All findings of one kind.

    Attributes:
        kind: a key of :data:`KINDS`.
        severity: "error", or "repaired: " and how.
        count: number of findings.
        examples: the first three.
    """

    kind: str
    severity: str
    count: int
    examples: tuple[str, ...]

    @property
    def fatal(self) -> bool:
        """Whether the file cannot be used."""
        return self.severity == "error"

    def __str__(self) -> str:
        return f"{self.count} x {self.kind} ({self.examples[0]})"


def load_annotations(path: str | Path) -> dict[str, Any]:
    """Reads an annotation file.

    Raises:
        UserError: the file is missing, truncated or not JSON, is not of the LVIS or COCO schema,
            or names no image or no category.
    """
    return _in_sections(read_json(path), path)


def load_packed(path: str | Path) -> tuple[dict[str, Any], str]:
    """As :func:`load_annotations`, with packed masks (see :func:`gol.data.packing.shrink`).

    Returns:
        The content, and the SHA-256 of the very file that was read.
    """
    data, digest = read_json_object(path, {"annotations": shrink})
    return _in_sections(data, path), digest


def _in_sections(data: Any, path: str | Path) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise UserError(f"{path}: not of the LVIS or COCO schema: expected {choices(SECTIONS)}")
    for key in SECTIONS:
        if not isinstance(data.get(key), list):
            raise UserError(f"{path}: not of the LVIS or COCO schema: key '{key}' must be a list")
    for key in ("images", "categories"):
        if not data[key]:
            raise UserError(f"{path}: key '{key}' is empty: at least one entry is needed")
    return data


def examine(
    data: dict[str, Any], image_folder: str | Path, decode: bool = True, drop_bad: bool = False
) -> tuple[dict[str, Any], list[Problem]]:
    """Finds every problem of an annotation file in one pass, and makes a copy without them.

    The copy is only of use if no problem is fatal. Each of its images has a ``file_name``
    relative to ``image_folder``; each annotation ``id``, ``image_id``, ``category_id``,
    ``bbox``, ``area``, ``iscrowd`` and ``segmentation`` (polygons, or RLE with compressed
    counts), and ``ignore`` where it is 1; categories are in the order of their ids.

    Args:
        data: the file's content, from :func:`load_annotations` or :func:`load_packed`; not changed.
        image_folder: folder that the images' ``file_name`` or ``coco_url`` leads to.
        decode: decodes every image; otherwise only its header and its end are read.
        drop_bad: leaves out annotations whose box or mask is wrong, instead of reporting an
            error; in a val split a detection of such an object then counts as false.

    Returns:
        The copy, and one entry for each kind of problem that occurs, errors first.
    """
    findings = _Findings()
    categories = _check_categories(data["categories"], findings)
    images = _check_images(data["images"], categories, findings)
    annotations = _check_annotations(data["annotations"], images, categories, findings, drop_bad)
    names = _check_files(list(images.values()), Path(image_folder), decode, findings)
    clean = {
        **{key: plain(data[key]) for key in ("info", "licenses") if key in data},
        "images": [{**plain(image), "file_name": name} for image, name in names],
        "annotations": annotations,
        "categories": [plain(categories[i]) for i in sorted(categories)],
    }
    return clean, findings.problems()


class _Findings:
    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()
        self._examples: dict[tuple[str, str], list[str]] = {}

    def add(self, kind: str, example: str, severity: str | None = None) -> None:
        key = kind, severity or KINDS[kind]
        self._counts[key] += 1
        examples = self._examples.setdefault(key, [])
        if len(examples) < _EXAMPLES:
            examples.append(example)

    def problems(self) -> list[Problem]:
        found = [
            Problem(kind, severity, count, tuple(self._examples[kind, severity]))
            for (kind, severity), count in self._counts.items()
        ]
        return sorted(found, key=lambda problem: not problem.fatal)


def _is_id(value: object) -> bool:
    # The store holds 64 bits.
    return type(value) is int and -(2**63) <= value < 2**63


def _is_ids(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_id, value))


def _is_length(value: object) -> bool:
    return type(value) is int and 0 < value <= LONGEST_SIDE


def _is_count(value: object) -> bool:
    return _is_id(value) and value >= 0


def _is_text(value: object) -> bool:
    # What JSON escapes as half of a surrogate pair comes from a name that is not UTF-8.
    return isinstance(value, str) and value != "" and not re.search("[\ud800-\udfff]", value)


class _Section(dict[int, dict]):
    """Entries by id.

    Attributes:
        refused: the ids of those that were refused, None for one that is missing. What points to
            them is not reported too.
    """

    def __init__(self) -> None:
        super().__init__()
        self.refused: set[Any] = set()

    def refuse(self, entry: Any) -> None:
        self.refused.add(_scalar(entry.get("id")) if isinstance(entry, dict) else None)

    def suspects(self, identity: Any) -> bool:
        """Whether an id that is not here may be that of a refused entry."""
        identity = _scalar(identity)
        return identity not in self and not self.refused.isdisjoint((identity, None))


def _scalar(value: Any) -> Any:
    return value if isinstance(value, int | float | str) else None


def _check_keys(entry: object, where: str, rules: dict, findings: _Findings) -> bool:
    """Whether every key of ``rules`` is there with a value that its rule accepts."""
    if not isinstance(entry, dict):
        findings.add("missing or wrong key", f"{where} is not an object")
        return False
    for key, accepts in rules.items():
        if key not in entry:
            findings.add("missing or wrong key", f"{where} has no {key}")
            return False
        if not accepts(entry[key]):
            findings.add("missing or wrong key", f"{where} has {key} {shown(entry[key])}")
            return False
    return True


def _check_categories(entries: list, findings: _Findings) -> _Section:
    categories, names = _Section(), set()
    optional = {
        "frequency": lambda value: value in tuple(GROUPS),
        "image_count": _is_count,
        "instance_count": _is_count,
    }
    for index, entry in enumerate(entries):
        rules = {"id": _is_id, "name": _is_text}
        rules |= {k: rule for k, rule in optional.items() if isinstance(entry, dict) and k in entry}
        if not _check_keys(entry, f"categories[{index}]", rules, findings):
            categories.refuse(entry)
            continue
        if entry["id"] in categories:
            findings.add("duplicate category id", f"id {entry['id']} is categories[{index}] too")
        if entry["name"] in names:
            example = f"{shown(entry['name'])} is categories[{index}] too"
            findings.add("duplicate category name", example)
        categories.setdefault(entry["id"], entry)
        names.add(entry["name"])
    return categories


def _check_images(entries: list, categories: _Section, findings: _Findings) -> _Section:
    images = _Section()
    lists = ("neg_category_ids", "not_exhaustive_category_ids")
    # LVIS has the lists in every image, COCO in none
    rules = {"id": _is_id, "width": _is_length, "height": _is_length}
    rules |= {
        key: _is_ids
        for key in lists
        if any(isinstance(entry, dict) and key in entry for entry in entries)
    }
    for index, entry in enumerate(entries):
        where = f"images[{index}]"
        fine = _check_keys(entry, where, rules, findings)
        if fine and not (names := file_names(entry)):
            findings.add("missing or wrong key", f"{where} has neither file_name nor coco_url")
            fine = False
        elif fine and not _is_text(names[0]):
            example = f"{where} has a name that is not UTF-8: {shown(names[0])}"
            findings.add("missing or wrong key", example)
            fine = False
        if not fine:
            images.refuse(entry)
            continue
        if entry["id"] in images:
            findings.add("duplicate image id", f"id {entry['id']} is {where} too")
        for key in lists:
            listed = entry.get(key, ())
            if unknown := [i for i in listed if i not in categories and not categories.suspects(i)]:
                findings.add("unknown category", f"{where} has {min(unknown)} in {key}")
        images.setdefault(entry["id"], entry)
    return images


def _check_annotations(
    entries: list, images: _Section, categories: _Section, findings: _Findings, drop_bad: bool
) -> list[dict]:
    rules = {key: _is_id for key in ("id", "image_id", "category_id")}
    ids: set[int] = set()
    kept = []
    refusals = bool(images.refused or categories.refused)
    for index, entry in enumerate(progress(entries, "checking annotations", len(entries))):
        if (
            refusals
            and isinstance(entry, dict)
            and any(
                section.suspects(entry.get(key))
                for key, section in (("image_id", images), ("category_id", categories))
            )
        ):
            continue
        if not _check_keys(entry, f"annotations[{index}]", rules, findings):
            continue
        where = f"annotation {entry['id']}"
        if entry["id"] in ids:
            findings.add("duplicate annotation id", f"id {entry['id']} is annotations[{index}] too")
        ids.add(entry["id"])
        if entry["category_id"] not in categories:
            findings.add("unknown category", f"{where} has category_id {entry['category_id']}")
        image = images.get(entry["image_id"])
        if image is None:
            findings.add("unknown image", f"{where} has image_id {entry['image_id']}")
            continue
        clean, found = clean_annotation(entry, image)
        for kind, detail in found:
            dropped = drop_bad and KINDS[kind] == "error"
            severity = "repaired: annotation left out" if dropped else None
            findings.add(kind, f"{where} {detail}", severity)
        if clean is not None:
            kept.append(clean)
    return kept


def _check_files(
    images: list[dict], folder: Path, decode: bool, findings: _Findings
) -> list[tuple[dict, str]]:
    """Each image with the name of its file."""

    def look(image: dict) -> tuple[dict, str | None, tuple[str, str] | None]:
        name = find_image(image, folder)
        if name is None:
            return image, None, ("missing image file", str(folder / file_names(image)[0]))
        return image, name, image_problem(folder / name, (image["width"], image["height"]), decode)

    named, what = [], f"checking images in {folder}"
    groups = (images[start : start + _GROUP] for start in range(0, len(images), _GROUP))
    # A network disk answers many questions at once.
    with any_size(), ThreadPoolExecutor(8) as pool:
        looked = chain.from_iterable(pool.map(lambda group: [*map(look, group)], groups))
        for image, name, problem in progress(looked, what, len(images)):
            if problem:
                findings.add(*problem)
            if name:
                named.append((image, name))
    return named
