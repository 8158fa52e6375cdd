"""Any COCO- or LVIS-schema dataset → checked annotations in one schema, and class statistics."""

from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gol.data.annotations import Problem, examine, load_annotations
from gol.data.prepared import Prepared
from gol.data.store import AnnotationStore
from gol.digests import sha256
from gol.errors import UserError
from gol.files import uncollected, write_json
from gol.groups import GROUPS, THRESHOLDS
from gol.losses.class_statistics import ClassStatistics


@uncollected()
def preprocess_dataset(
    train_annotations: str | Path,
    train_images: str | Path,
    val_annotations: str | Path,
    val_images: str | Path,
    out_folder: str | Path,
    thresholds: tuple[int, int] = THRESHOLDS,
    decode: bool = True,
    drop_bad: bool = False,
) -> dict[str, Any]:
    """Checks both splits and writes what training and evaluation read.

    ``train.json`` and ``val.json`` are of the LVIS v1 schema with, in addition, each image's
    ``file_name`` relative to its image folder and each annotation's ``iscrowd``. Categories are
    in the order of their ids, the same in both. Where the train file lacks them, ``frequency``,
    ``image_count`` and ``instance_count`` are counted in the train split. ``classes.json`` holds
    the class statistics of the train split, ``summary.json`` what is returned; ``train.store`` and
    ``val.store`` hold the annotations as training reads them (see :mod:`gol.data.store`).

    A COCO-schema file is labelled exhaustively, so an image's ``neg_category_ids`` are all
    absent classes. Its crowd regions (``iscrowd``) stay in train, where mmdet ignores them, and
    do not count as objects. The LVIS protocol knows none: in val they are left out and
    the class becomes one of the image's ``not_exhaustive_category_ids``, so that detections in
    the crowd are not counted as false.

    Args:
        train_annotations: JSON file of the train split.
        train_images: folder that the ``file_name`` or ``coco_url`` of its images leads to.
        val_annotations: JSON file of the val split.
        val_images: its image folder.
        out_folder: where to write.
        thresholds: the most images that a rare and a common class have; used if the train file
            states no groups.
        decode: decodes every image; otherwise only its header and its end are read.
        drop_bad: leaves out annotations whose box or mask is wrong, instead of refusing.

    Returns:
        Per split the number of images, objects, crowds and so on, the repaired problems and the
        raw file's SHA-256; the number of classes per group; and under ``text`` a summary to print.

    Raises:
        UserError: the files have errors. One line gives their number and an example of each
            kind, ``problems.json`` in ``out_folder`` lists them all; no other file is written.
    """
    prepared = Prepared(Path(out_folder))
    splits = {
        "train": _examine(train_annotations, train_images, decode, drop_bad),
        "val": _examine(val_annotations, val_images, decode, drop_bad),
    }
    files = {"train": train_annotations, "val": val_annotations}
    problems = {str(files[split]): found for split, (_, found) in splits.items()}
    _refuse_errors(problems, prepared.problems)
    train, statistics = _normalise_train(splits["train"][0], thresholds, train_annotations)
    val = _normalise_val(splits["val"][0], train["categories"], val_annotations)
    summary = {
        "train": _describe(train, splits["train"][1], train_annotations),
        "val": _describe(val, splits["val"][1], val_annotations),
        "classes": _groups(train["categories"]),
    }
    summary["text"] = _text(summary)
    for split, data in (("train", train), ("val", val)):
        _write(prepared.annotations(split), data)
    statistics.save(prepared.classes, "gol preprocess")
    write_json(prepared.summary, summary, indent=2, writer="gol preprocess")
    prepared.problems.unlink(missing_ok=True)
    return summary


def _write(file: Path, data: dict[str, Any]) -> None:
    write_json(file, data, writer="gol preprocess")
    AnnotationStore.from_annotations(data, file).save(file.with_suffix(".store"))


def _examine(
    file: str | Path, folder: str | Path, decode: bool, drop_bad: bool
) -> tuple[dict[str, Any], list[Problem]]:
    data = load_annotations(file)
    if not Path(folder).is_dir():
        raise UserError(f"{folder}, the image folder of {file}, does not exist")
    return examine(data, folder, decode, drop_bad)


def _refuse_errors(problems: dict[str, list[Problem]], report: Path) -> None:
    fatal = {file: [p for p in found if p.fatal] for file, found in problems.items()}
    parts = [f"{file}: {', '.join(map(str, found))}" for file, found in fatal.items() if found]
    if parts:
        write_json(report, {file: [asdict(p) for p in ps] for file, ps in problems.items()}, 2)
        raise UserError(f"{'; '.join(parts)}; all problems are listed in {report}")


def _normalise_train(
    data: dict[str, Any], thresholds: tuple[int, int], file: str | Path
) -> tuple[dict[str, Any], ClassStatistics]:
    objects = [a for a in data["annotations"] if not a["iscrowd"]]
    if not objects:
        raise UserError(f"{file}: key 'annotations' has no object to train on")
    statistics = ClassStatistics.from_annotations({**data, "annotations": objects}, thresholds)
    columns = (statistics.frequencies, statistics.image_counts, statistics.instance_counts)
    categories = [
        {
            "synset": category["name"],
            "def": "",
            "synonyms": [category["name"]],
            "image_count": image_count,
            "instance_count": instance_count,
            **category,
            "frequency": frequency,
        }
        for category, frequency, image_count, instance_count in zip(
            data["categories"], *columns, strict=True
        )
    ]
    return _in_schema(data, data["annotations"], categories), statistics


def _normalise_val(
    data: dict[str, Any], categories: list[dict], file: str | Path
) -> dict[str, Any]:
    known = {category["id"]: category["name"] for category in categories}
    for category in data["categories"]:
        number, name = category["id"], category["name"]
        if known.get(number) != name:
            other = f"is {known[number]!r}" if number in known else "does not exist"
            raise UserError(f"{file}: category {number} ({name!r}) {other} in the train split")
    objects = [a for a in data["annotations"] if not a["iscrowd"]]
    if not objects:
        raise UserError(f"{file}: key 'annotations' has no object to evaluate on")
    return _in_schema(data, objects, categories)


def _in_schema(
    data: dict[str, Any], annotations: list[dict], categories: list[dict]
) -> dict[str, Any]:
    """The LVIS v1 schema; ``data`` still has all annotations, ``annotations`` those to keep."""
    objects, crowds = defaultdict(set), defaultdict(set)
    for a in data["annotations"]:
        (crowds if a["iscrowd"] else objects)[a["image_id"]].add(a["category_id"])
    ids = [category["id"] for category in categories]
    images = []
    for image in data["images"]:
        present, crowd = objects[image["id"]], crowds[image["id"]]
        absent = image.get("neg_category_ids")
        if absent is None:
            absent = [i for i in ids if i not in present and i not in crowd]
        incomplete = crowd.union(image.get("not_exhaustive_category_ids", ()))
        images.append(
            image | {"neg_category_ids": absent, "not_exhaustive_category_ids": sorted(incomplete)}
        )
    return {
        "info": data.get("info", {}),
        "licenses": data.get("licenses", []),
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }


def _groups(categories: list[dict]) -> dict[str, int]:
    counts = Counter(category["frequency"] for category in categories)
    return {group: counts[group] for group in GROUPS}


def _describe(data: dict[str, Any], problems: list[Problem], raw: str | Path) -> dict[str, Any]:
    objects = [a for a in data["annotations"] if not a["iscrowd"]]
    present = {a["category_id"] for a in objects}
    return {
        "images": len(data["images"]),
        "images_without_object": len(data["images"]) - len({a["image_id"] for a in objects}),
        "objects": len(objects),
        "crowds": len(data["annotations"]) - len(objects),
        "classes_with_objects": _groups([c for c in data["categories"] if c["id"] in present]),
        "problems": [asdict(problem) for problem in problems],
        "sha256": sha256(raw),
    }


def _text(summary: dict[str, Any]) -> str:
    def named(groups: dict[str, int]) -> str:
        return ", ".join(f"{count} {GROUPS[group]}" for group, count in groups.items())

    lines = [f"{sum(summary['classes'].values())} classes: {named(summary['classes'])}"]
    for split in ("train", "val"):
        part = summary[split]
        lines.append(
            f"{split}: {part['objects']} objects in {part['images']} images "
            f"({part['images_without_object']} without); "
            f"classes with objects: {named(part['classes_with_objects'])}"
        )
        lines += [
            f"{split}: {p['count']} x {p['kind']} ({p['severity']}), as {p['examples'][0]}"
            for p in part["problems"]
        ]
    return "\n".join(lines)
