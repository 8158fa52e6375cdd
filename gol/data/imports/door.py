"""``gol import``: from an export as it is to annotations that ``gol preprocess`` takes."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from types import ModuleType
from typing import Any

from gol.data.images import any_size
from gol.data.imports import coco, cvat, labelme, sagemaker, via, voc, yolo
from gol.data.imports.classes import merge_classes
from gol.data.imports.copies import copies
from gol.data.imports.export import Export, Labels
from gol.data.imports.findings import LEFT_OUT, Findings
from gol.data.imports.output import check_own, write_own
from gol.data.imports.repair import Answers, Repair, join_lists
from gol.data.imports.summary import Split, file_name, summarise
from gol.errors import UserError, choices, first_few, pick, plural
from gol.files import uncollected
from gol.progress import progress
from gol.sources.archive import unpack
from gol.sources.forms import refuse_other_forms

FORMATS: dict[str, ModuleType] = {
    "coco": coco,
    "cvat": cvat,
    "labelme": labelme,
    "sagemaker": sagemaker,
    "via": via,
    "voc": voc,
    "yolo": yolo,
}
REPORT = "import.json"
_LABEL_SUFFIXES = (".json", ".jsonl", ".manifest", ".txt", ".xml")
_ARCHIVES = (".zip", ".gz", ".tar", ".tgz", ".7z", ".rar")
_ORDER = ("train", "val", "test", None)


@any_size()
@uncollected()
def import_export(
    source: str | Path,
    out: str | Path,
    form: str | None = None,
    images: str | Path | None = None,
    answers: Answers | None = None,
    drop_bad: bool = False,
    classes: Iterable[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Reads an export and writes it in the LVIS schema, with a report of what was changed.

    ``train.json``, ``val.json`` and ``test.json`` are what the export says is of these splits,
    ``annotations.json`` the rest; each image's ``file_name`` is relative to the image folder. The
    images stay where they are; those of a zip are unpacked into ``out``.

    Args:
        source: a folder, a zip archive, or a label file whose images lie beside or below it.
        out: folder to write to.
        form: a key of :data:`FORMATS`; None: the one that is recognised.
        images: image folder, where it is another one.
        answers: what to do where an export may mean two things.
        drop_bad: leaves out what is wrong instead of refusing the export.
        classes: categories of another export, whose ids those of the same name take.

    Returns:
        What ``import.json`` holds: source, format, image folder, counts of each split, all
        changes by kind with examples, and under ``text`` a summary to print.

    Raises:
        UserError: nothing is recognised, something is wrong, or an answer is needed; nothing was
            written but what a zip holds.
    """
    source, out, answers = Path(source), Path(out), answers or Answers()
    _check_out(source, out)
    findings = Findings(drop_bad)
    try:
        export = _open(source, out, Path(images) if images else None)
        form, parts = _read(export, source, form, answers.class_key, findings)
    except OSError as error:
        raise UserError(f"cannot read {error.filename or source}: {error.strerror}") from error
    categories, maps = merge_classes(parts, findings, classes)
    _read_sizes(export, parts)
    splits: dict[str | None, Split] = {}
    for part, ids in zip(parts, maps, strict=True):
        found = Repair(part, ids, export, answers, findings).repaired()
        _join(splits.setdefault(part.split, {"images": [], "annotations": []}), *found)
    for split in splits.values():
        _one_entry_each(split, findings)
    _settle_crowds(splits, answers, findings)
    if advice := findings.advice():
        raise UserError(f"{source}: {advice}")
    _drop_empty(source, splits, findings)
    _note_leaks(export, splits, findings)
    _note_unused(export, splits, findings)
    written = {file_name(name): split for name, split in splits.items()}
    facts = {"source": str(source), "format": form, "images": str(export.images)}
    summary = summarise(facts, written, categories, findings, out)
    files = {name: {**split, "categories": categories} for name, split in written.items()}
    write_own(out, map(file_name, _ORDER), files, REPORT, summary, "gol import")
    return summary


def _check_out(source: Path, out: Path) -> None:
    if not source.exists():
        raise UserError(f"no file or folder {source}")
    if source.resolve() in (out.resolve(), *((out / file_name(s)).resolve() for s in _ORDER)):
        raise UserError(f"{out} is or has the export itself: give another folder to write to")
    check_own(out, map(file_name, _ORDER), REPORT, "gol import")


def _open(source: Path, out: Path, images: Path | None) -> Export:
    if images and not images.is_dir():
        raise UserError(f"no folder {images}")
    if source.is_dir():
        return Export(source, None, images, out)
    if source.suffix.lower() == ".zip":
        with open(source, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:8]
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot write {out}: {error.strerror}") from error
        folder = unpack(source, out / f"{source.stem}-{digest}", whole=True)
        return Export(folder, None, images, None)
    if source.suffix.lower() in (".yaml", ".yml"):  # of YOLO, whose labels lie beside it
        return Export(source.parent, None, images, out)
    if source.suffix.lower() not in _LABEL_SUFFIXES:
        wanted = f"a folder, a zip archive or a label file ({choices(_LABEL_SUFFIXES)})"
        refuse_other_forms(source, wanted, "export one of these")
    return Export(source.parent, source, images, None)


def _recognise(export: Export, source: Path, form: str | None) -> tuple[str, list[Path]]:
    """The format, and the label files that are of it."""
    if form and (files := pick("format", form, FORMATS).find(export)):
        return form, files
    found = {name: files for name, module in FORMATS.items() if (files := module.find(export))}
    counts = choices(f"{name} ({plural(len(files), 'file')})" for name, files in found.items())
    if found and form:
        raise UserError(f"{source} holds no labels of the format {form}, but of {counts}")
    if len(found) > 1:
        raise UserError(f"{source} holds labels of several formats: {counts}: say --format")
    if found:
        return found.popitem()
    if export.unreadable:
        raise UserError(next(iter(export.unreadable.values())))
    packed = [path.name for path in export.paths if path.suffix.lower() in _ARCHIVES]
    advice = f": unpack {first_few(packed)} first" if packed else ""
    raise UserError(f"{source} holds no labels of the formats {choices(FORMATS)}{advice}")


def _read(
    export: Export, source: Path, form: str | None, class_key: str | None, findings: Findings
) -> tuple[str, list[Labels]]:
    """The format, and the labels of each split."""
    form, files = _recognise(export, source, form)
    read = FORMATS[form].read
    if form == "via":
        read = partial(read, class_key=class_key)
    elif class_key:
        raise UserError(f"--class-key names an attribute of via; {source} is of {form}")
    parts = sorted(read(export, files, findings), key=lambda part: _ORDER.index(part.split))
    _note_other_files(export, files, findings)
    return form, parts


def _note_other_files(export: Export, files: list[Path], findings: Findings) -> None:
    """Counts what lies beside the label files, has the same suffix and was not read."""
    read = export.read_too.union(files)
    for path in export.files(*{path.suffix.lower() for path in files}):
        if path in export.unreadable:
            findings.add("unreadable label file", export.unreadable[path])
        elif path not in read:
            findings.add("file that holds no labels of the format", str(export.name(path)))


def _read_sizes(export: Export, parts: list[Labels]) -> None:
    """Reads the headers of all images; a network disk answers many questions at once."""

    def look(item: tuple[Labels, Any]) -> None:
        part, entry = item
        with suppress(UserError):  # is reported with its image
            name = entry.get("file_name") if isinstance(entry, dict) else None
            found = export.image(name, part) if isinstance(name, str) else None
            if found:
                export.size(found)

    total = sum(len(part.images) for part in parts)
    items = ((part, entry) for part in parts for entry in part.images)
    with ThreadPoolExecutor(8) as pool:
        for _ in progress(pool.map(look, items), f"reading images in {export.images}", total):
            pass


def _join(split: Split, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    """Adds what another label file says of a split; its ids come after those that are there."""
    if split["images"]:
        shift = max(image["id"] for image in split["images"])
        own = {image["id"]: shift + number for number, image in enumerate(images, 1)}
        first = max((a["id"] for a in split["annotations"]), default=0) + 1
        images = [{**image, "id": own[image["id"]]} for image in images]
        annotations = [
            {**annotation, "id": number, "image_id": own[annotation["image_id"]]}
            for number, annotation in enumerate(annotations, first)
        ]
    split["images"] += images
    split["annotations"] += annotations


def _one_entry_each(split: Split, findings: Findings) -> None:
    """Joins the entries of an image that several label files, or one, name twice."""
    first: dict[str, dict[str, Any]] = {}
    for image in split["images"]:
        first.setdefault(image["file_name"], image)
    own = {image["id"]: first[image["file_name"]]["id"] for image in split["images"]}
    twice = [image for image in split["images"] if own[image["id"]] != image["id"]]
    if not twice:
        return
    findings.add("image entries that were there twice", twice[0]["file_name"], len(twice))
    split["images"] = list(first.values())
    for image in twice:
        join_lists(first[image["file_name"]], image)
    doubled = {own[image["id"]] for image in twice}
    objects: dict[bytes, int] = {}
    kept = []
    for annotation in split["annotations"]:
        annotation["image_id"] = own[annotation["image_id"]]
        known = annotation["id"]
        if annotation["image_id"] in doubled:
            known = objects.setdefault(_digest(annotation), known)
        if known == annotation["id"]:
            kept.append(annotation)
        else:
            example = f"annotation {annotation['id']} is {known} again"
            findings.add("object of such an image that was there twice", example)
    split["annotations"] = kept


def _digest(annotation: dict[str, Any]) -> bytes:
    """What is the same for two annotations of one object."""
    values = [annotation[key] for key in ("image_id", "category_id", "segmentation")]
    return hashlib.sha256(str(values).encode()).digest()


def _annotations(splits: dict[str | None, Split]) -> Iterable[dict[str, Any]]:
    return chain.from_iterable(split["annotations"] for split in splits.values())


def _settle_crowds(splits: dict[str | None, Split], answers: Answers, findings: Findings) -> None:
    crowds = [annotation for annotation in _annotations(splits) if annotation["iscrowd"]]
    if not crowds:
        return
    example, count = f"annotation {crowds[0]['id']}", len(crowds)
    if answers.crowd == "objects":
        for annotation in crowds:
            annotation["iscrowd"] = 0
        findings.add("crowd region taken as an object", example, count)
    elif answers.crowd is None and all(a["iscrowd"] for a in _annotations(splits)):
        findings.add("all annotations are crowd regions (iscrowd)", example, count)
    else:
        findings.add("crowd region (iscrowd)", example, count)


def _drop_empty(source: Path, splits: dict[str | None, Split], findings: Findings) -> None:
    """Drops splits of which all images were left out."""
    for name in [name for name, split in splits.items() if not split["images"]]:
        del splits[name]
    if any(_annotations(splits)):
        return
    lost = [problem for problem in findings.problems() if LEFT_OUT in problem.severity]
    why = f": left out were {choices(lost)}" if lost else ""
    raise UserError(f"{source}: no {'object' if splits else 'image'} is left{why}")


def _note_leaks(export: Export, splits: dict[str | None, Split], findings: Findings) -> None:
    """Counts images that are in several splits or twice in one, whatever they are called."""
    places = {file_name(name): split["images"] for name, split in splits.items()}
    named = [(image["file_name"], place) for place, images in places.items() for image in images]
    again = copies(export.images / name for name, _ in named)
    seen: dict[Path, tuple[str, str]] = {}
    for name, place in named:
        path = export.images / name
        first, other = seen.setdefault(again.get(path, path), (name, place))
        if other != place:
            place = place if first == name else f"as {name} in {place}"
            findings.add("image in more than one split", f"{first} is in {other} and {place}")
        elif first != name:
            findings.add("image with the same content as another", f"{name} is {first}")


def _note_unused(export: Export, splits: dict[str | None, Split], findings: Findings) -> None:
    folders = {
        Path(image["file_name"]).parent for split in splits.values() for image in split["images"]
    }
    names = [export.image_name(path) for path in export.pictures]
    left = [str(n) for n in names if str(n) not in export.named and Path(n).parent in folders]
    if left:
        findings.add("image that no label mentions", left[0], len(left))
