"""One list of classes for all splits, matched by name."""

from collections import Counter
from collections.abc import Iterable
from typing import Any

from gol.data.imports.export import Labels
from gol.data.imports.findings import Findings
from gol.data.imports.values import flag, id_key, plain_name
from gol.data.objects import plain
from gol.errors import UserError, shown


def merge_classes(
    parts: list[Labels], findings: Findings, known: Iterable[dict[str, Any]] = ()
) -> tuple[list[dict[str, Any]], list[dict[Any, int]]]:
    """The classes of all parts; where one is in several, its first id counts.

    Args:
        parts: what the readers found.
        findings: for what is changed.
        known: classes that are there already.

    Returns:
        The categories in the order of their ids, and for each part its own ids to these.

    Raises:
        UserError: a class has no name, two have the same id, or two that have objects one name.
    """
    merged = {entry["name"]: dict(entry) for entry in known}
    used = {entry["id"] for entry in merged.values()}
    maps: list[dict[Any, int]] = []
    for part in parts:
        classes = _classes(part, findings)
        for key, entry in classes.items():
            name = entry["name"]
            if name not in merged:
                free = isinstance(key, int) and key not in used
                merged[name] = {**entry, "id": key if free else max(used, default=0) + 1}
                used.add(merged[name]["id"])
            new = merged[name]["id"]
            if not isinstance(key, int):
                findings.add("class ids that were no whole numbers", f"{part.source}: {key}")
            elif new != key:
                example = f"{part.source}: '{name}' has id {key}, not {new}"
                findings.add("classes with another id in this split", example)
        maps.append({key: merged[entry["name"]]["id"] for key, entry in classes.items()})
    _note_alike(merged, findings)
    return sorted(merged.values(), key=lambda entry: entry["id"]), maps


def _note_alike(names: Iterable[str], findings: Findings) -> None:
    """Counts classes that are likely to be one, by slip or by another tool's spelling."""
    first: dict[str, str] = {}
    for name in names:
        other = first.setdefault(plain_name(name), name)
        if other != name:
            kind = "classes whose names differ in case, spaces or hyphens alone"
            findings.add(kind, f"'{name}' and '{other}'")


def _classes(part: Labels, findings: Findings) -> dict[Any, dict[str, Any]]:
    """A part's classes by id, each name once."""
    used = Counter(id_key(a.get("category_id")) for a in part.annotations if isinstance(a, dict))
    entries = [entry for entry in part.categories if isinstance(entry, dict)]
    parents = {str(entry.get("supercategory")) for entry in entries}
    names = Counter(_name(entry) for entry in entries)
    classes: dict[Any, dict[str, Any]] = {}
    for entry in entries:
        key, name = id_key(entry.get("id")), _name(entry)
        where = f"{part.source}: category {shown(key)}"
        if key is None:
            raise UserError(f"{part.source}: category {shown(name)} has no id")
        if not name:
            raise UserError(f"{where} has no name")
        if name != name.encode(errors="ignore").decode():
            raise UserError(f"{where} has a name that is not UTF-8: {shown(name)}")
        # Roboflow puts a category without objects above all classes, at times of a class's name.
        if not used[key] and (names[name] > 1 or (name in parents and _is_top(entry))):
            findings.add("root category without objects", f"{where} '{name}'")
            names[name] -= 1
            continue
        if key in classes:
            raise UserError(f"{where} is both '{classes[key]['name']}' and '{name}'")
        if names[name] > 1:
            raise UserError(f"{where} is not the only '{name}' with objects: rename one")
        classes[key] = {**plain(entry), "name": name}
    return classes


def _name(entry: dict[str, Any]) -> str:
    return str(entry.get("name") or "").strip()


def _is_top(entry: dict[str, Any]) -> bool:
    return flag(entry.get("supercategory")) is False  # "none", "" or missing
