"""YOLO's text files with polygons, as Ultralytics, Roboflow, CVAT and Label Studio lay them out."""

from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from gol.data.images import IMAGE_SUFFIXES
from gol.data.imports.export import Export, Labels, split_of
from gol.data.imports.findings import Findings
from gol.data.imports.values import number, numbers, whole
from gol.errors import UserError
from gol.files import read_yaml

_NAMES = ("classes.txt", "obj.names")
_DECIMALS = 6  # of a pixel: undoes the rounding of a division by the image's side


def find(export: Export) -> list[Path]:
    """The text files whose lines are a class and four or more numbers, and those beside them.

    One such line is enough in a file that has an image's name. Beside them, an empty file is an
    image without objects, and one that has an image's name is a label file that is wrong.
    """
    texts = (path for path in export.files(".txt") if path.name not in _NAMES)
    read = {path: lines for path in texts if not _is_list(lines := _lines(path))}
    stems = {path.stem for path in export.pictures}
    found = {
        path
        for path, lines in read.items()
        if lines and (any if path.stem in stems else all)(map(_is_object, lines))
    }
    folders = {path.parent for path in found}
    beside = (path for path in read.keys() - found if path.parent in folders)
    return sorted(found | {path for path in beside if not read[path] or path.stem in stems})


def _lines(path: Path) -> list[list[str]]:
    text = path.read_text(encoding="utf-8-sig", errors="replace")
    return [line.split() for line in text.splitlines() if line.strip()]


def _is_list(lines: list[list[str]]) -> bool:
    """Whether every line is the path of an image, as in Darknet's and Ultralytics' train.txt."""
    paths = (PurePosixPath(" ".join(line).replace("\\", "/")) for line in lines)
    return bool(lines) and all(path.suffix.lower() in IMAGE_SUFFIXES for path in paths)


def _is_object(line: list[str]) -> bool:
    return len(line) >= 5 and numbers(line) is not None


def read(export: Export, files: list[Path], findings: Findings) -> list[Labels]:
    """One entry for each split, which ``data.yaml``, the folders or a list of its images say.

    Raises:
        UserError: no file has the classes' names.
    """
    names, folders = _names(export)
    listed = _listed_images(export, findings)
    splits: dict[str | None, Labels] = {}
    used = set()
    for path in files:
        name = export.name(path)
        split = split_of(name.parent)
        labels = Labels(name, split)
        found = export.image(_image_name(name), labels)
        if found is None:
            findings.add("missing image file", f"{name}: no image {path.stem}")
            if lines := _lines(path):
                findings.add("object of an image that is left out", str(name), len(lines))
            continue
        used.add(found)
        split = _split_of_image(found, folders, listed, split)
        labels = splits.setdefault(split, Labels(name.parent, split))
        _read(export, path, found, names, labels, findings)
    _add_unlabelled(export, used, splits, listed, folders, findings)
    for split, labels in splits.items():
        for name in (image["file_name"] for image in labels.images):
            if listed.get(name, split) != split:
                findings.add("image in a list of another split than its folder or data.yaml", name)
    return [labels.name_classes(names.values()) for labels in splits.values()]


def _names(export: Export) -> tuple[dict[int, str], dict[str, list[tuple[str, ...]]]]:
    """The classes by number, and for each split the image folders that belong to it."""
    for path in export.files(".yaml", ".yml"):
        content = read_yaml(path)
        names = content.get("names") if isinstance(content, dict) else None
        if isinstance(names, list):
            names = dict(enumerate(names))
        if names and isinstance(names, dict) and all(whole(key) is not None for key in names):
            numbered = {whole(key) or 0: str(name) for key, name in names.items()}
            return dict(sorted(numbered.items())), _folders(content)
    for path in export.files(".txt", ".names"):
        if path.name in _NAMES:
            export.read_too.add(path)
            lines = path.read_text(encoding="utf-8-sig", errors="replace").splitlines()
            return dict(enumerate(line.strip() for line in lines if line.strip())), {}
    raise UserError(f"{export.root}: no data.yaml, classes.txt or obj.names names YOLO's classes")


def _folders(content: dict[str, Any]) -> dict[str, list[tuple[str, ...]]]:
    found = {}
    for split in ("train", "val", "test"):
        value = content.get(split)
        listed = value if isinstance(value, list) else [value]
        paths = [PurePosixPath(text) for text in listed if isinstance(text, str)]
        parts = [tuple(part for part in path.parts if part not in (".", "..")) for path in paths]
        found[split] = [path for path in parts if path]
    return found


def _listed_images(export: Export, findings: Findings) -> dict[str, str]:
    """The split of every image in a list whose name says one."""
    found: dict[str, str] = {}
    for path in export.files(".txt"):
        split = split_of(PurePosixPath(path.stem))
        if split and path.name not in _NAMES and _is_list(lines := _lines(path)):
            export.read_too.add(path)
            labels = Labels(export.name(path), split)
            for name in map(" ".join, lines):
                image = None
                with suppress(UserError):  # it may be one of several
                    image = export.image(name, labels)
                if image is None:
                    example = f"{export.name(path)}: {name}"
                    findings.add("line of a list that fits no image, or several", example)
                    continue
                if found.get(image, split) != split:
                    example = f"{image} is in those of {found[image]} and {split}"
                    findings.add("image in the lists of several splits", example)
                found[image] = split
    return found


def _split_of_image(
    image: str,
    folders: dict[str, list[tuple[str, ...]]],
    listed: dict[str, str],
    of_labels: str | None = None,
) -> str | None:
    """What ``data.yaml`` says of an image's folder, else the folders' names, else a list."""
    own = of_labels or split_of(PurePosixPath(image).parent)
    return _of_folder(image, folders) or own or listed.get(image)


def _of_folder(image: str, folders: dict[str, list[tuple[str, ...]]]) -> str | None:
    parts = PurePosixPath(image).parts
    named = [s for s, paths in folders.items() if any(parts[: len(p)] == p for p in paths)]
    return named[0] if len(named) == 1 else None


def _image_name(labels: PurePosixPath) -> str:
    """Where the image of a label file is by convention, without its suffix."""
    parts = list(labels.with_name(labels.stem).parts)
    if "labels" in parts[:-1]:
        parts[len(parts) - 1 - parts[::-1].index("labels")] = "images"
    return "/".join(parts)


def _read(
    export: Export,
    path: Path,
    found: str,
    names: dict[int, str],
    labels: Labels,
    findings: Findings,
) -> None:
    lines = _lines(path)
    try:
        width, height = export.size(found)
    except UserError as error:
        findings.add("unreadable image file", str(error))
        if lines:
            findings.add("object of an image that is left out", str(error), len(lines))
        return
    image = labels.add_image(found, width=width, height=height)
    for index, line in enumerate(lines, 1):
        where = f"{export.name(path)}: line {index}"
        kind, values = whole(number(line[0])), numbers(line[1:])
        if values is None or len(values) < 4:
            findings.add("malformed label", f"{where} is no class with four or more numbers")
        elif kind not in names:
            findings.add("malformed label", f"{where}: class {line[0]} of {len(names)}")
        elif len(values) in (4, 5):  # a fifth number is a confidence
            x, y, w, h = (_pixels(v, i, width, height) for i, v in enumerate(values[:4]))
            labels.add(image, names[kind], bbox=[x - w / 2, y - h / 2, w, h])
        elif len(values) % 2:
            findings.add("malformed label", f"{where}: {len(values)} coordinates")
        else:
            polygon = [_pixels(v, i, width, height) for i, v in enumerate(values)]
            labels.add(image, names[kind], segmentation=[polygon])


def _pixels(value: float, index: int, width: int, height: int) -> float:
    return round(value * (height if index % 2 else width), _DECIMALS)


def _add_unlabelled(
    export: Export,
    used: set[str],
    splits: dict[str | None, Labels],
    listed: dict[str, str],
    folders: dict[str, list[tuple[str, ...]]],
    findings: Findings,
) -> None:
    """Images without a label file, beside those with one, are without objects by convention."""
    beside = {PurePosixPath(name).parent for name in used}
    for path in export.pictures:
        name = export.image_name(path)
        if name.parent in beside and str(name) not in used:
            split = _split_of_image(str(name), folders, listed)
            labels = splits.setdefault(split, Labels(name.parent, split))
            labels.add_image(str(name))
            findings.add("image without a label file", str(name))
