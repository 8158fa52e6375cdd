"""Any COCO- or LVIS-schema dataset → checked annotations in one schema, and class statistics.

``train.json`` and ``val.json`` are of the LVIS v1 schema with, in addition, each image's
``file_name`` relative to its image folder and each annotation's ``iscrowd``. Categories are in the
order of their ids, the same in both. Where the train file lacks them, ``frequency``,
``image_count`` and ``instance_count`` are counted in the train split. ``classes.json`` holds the
class statistics of the train split; ``train.store`` and ``val.store`` hold the annotations as
training reads them (see :mod:`gol.data.store`).

A COCO-schema file is labelled exhaustively, so an image's ``neg_category_ids`` are all absent
classes. Its crowd regions (``iscrowd``) stay in train, where mmdet ignores them, and do not count
as objects. The LVIS protocol knows none: in val they are left out and the class becomes one of the
image's ``not_exhaustive_category_ids``, so that detections in the crowd are not counted as false.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from gol.data.annotations import DROPPABLE, Problem, examine, load_packed
from gol.data.constants import Constants
from gol.data.images import MIN_SIDE
from gol.data.objects import is_object
from gol.data.packing import annotation_texts
from gol.data.prepared import SPLITS, Prepared
from gol.data.store import AnnotationStore
from gol.data.summary import describe, groups, is_small, text
from gol.errors import UserError, choices, shown
from gol.files import uncollected, write_json
from gol.groups import THRESHOLDS
from gol.losses.class_statistics import ClassStatistics

_KINDS = 5  # kinds of errors that the one line names for a file


@uncollected()
def preprocess_dataset(
    train_annotations: str | Path,
    train_images: str | Path,
    val_annotations: str | Path,
    val_images: str | Path,
    out_folder: str | Path,
    thresholds: tuple[int, int] | None = THRESHOLDS,
    decode: bool = True,
    drop_bad: bool = False,
    derived: Collection[str] = (),
) -> dict[str, Any]:
    """Checks both splits and writes what training and evaluation read.

    See the module for the files' content; ``summary.json`` holds what is returned.

    Args:
        train_annotations: JSON file of the train split.
        train_images: folder that the ``file_name`` or ``coco_url`` of its images leads to.
        val_annotations: JSON file of the val split.
        val_images: its image folder.
        out_folder: where to write.
        thresholds: the most images that a rare and a common class have; used if the train file
            states no groups; None: those of :mod:`gol.data.constants`.
        decode: decodes every image; otherwise only its header and its end are read.
        drop_bad: leaves out annotations whose box or mask is wrong, instead of refusing.
        derived: the dataset's keys whose values follow from the class counts.

    Returns:
        Per split what :func:`gol.data.summary.describe` counts and the raw file's SHA-256; the
        number of classes per group; under ``constants`` what follows from the counts, if the
        dataset takes any of it; and under ``text`` a summary to print.

    Raises:
        UserError: the files have errors. One line gives their number and an example of each
            kind, ``problems.json`` in ``out_folder`` lists them all; no other file is written.
    """
    prepared = Prepared(Path(out_folder))
    files = {"train": train_annotations, "val": val_annotations}
    folders = {"train": train_images, "val": val_images}
    splits, digests = {}, {}
    for split in SPLITS:
        *splits[split], digests[split] = _examine(files[split], folders[split], decode, drop_bad)
    problems = {str(files[split]): found for split, (_, found) in splits.items()}
    _refuse_errors(problems, prepared.problems)
    for split, purpose in (("train", "train"), ("val", "evaluate")):
        _refuse_none(*splits[split], files[split], purpose)
    train, statistics = _normalise_train(splits["train"][0], thresholds, train_annotations)
    val = _normalise_val(splits["val"][0], train["categories"], val_annotations)
    constants = Constants.of(statistics)
    summary = _summarise(splits, digests, train["categories"], constants, derived)
    # Both are made before either is written: a file that cannot be leaves no half of a dataset.
    made = {
        split: (data, AnnotationStore.from_annotations(data, files[split]))
        for split, data in (("train", train), ("val", val))
    }
    _write(prepared, made, statistics, summary)
    return summary


def _write(
    prepared: Prepared,
    made: dict[str, tuple[dict[str, Any], AnnotationStore]],
    statistics: ClassStatistics,
    summary: dict[str, Any],
) -> None:
    for split, (data, store) in made.items():
        file = prepared.annotations(split)
        write_json(file, data, writer="gol preprocess", encode=annotation_texts)
        store.save(prepared.store(split))
    statistics.save(prepared.classes, "gol preprocess")
    write_json(prepared.summary, summary, indent=2, writer="gol preprocess")
    prepared.problems.unlink(missing_ok=True)


def _examine(
    file: str | Path, folder: str | Path, decode: bool, drop_bad: bool
) -> tuple[dict[str, Any], list[Problem], str]:
    """The checked copy, what was found, and the file's SHA-256."""
    data, digest = load_packed(file)
    if not Path(folder).is_dir():
        raise UserError(f"{folder}, the image folder of {file}, does not exist")
    return *examine(data, folder, decode, drop_bad), digest


def _refuse_errors(problems: dict[str, list[Problem]], report: Path) -> None:
    fatal = {file: [p for p in found if p.fatal] for file, found in problems.items()}
    parts = [f"{file}: {_listed(found)}" for file, found in fatal.items() if found]
    if not parts:
        return
    write_json(report, {file: [asdict(p) for p in ps] for file, ps in problems.items()}, 2)
    kinds = {problem.kind for found in fatal.values() for problem in found}
    advice = "; `drop_bad: true` in the dataset's file leaves such annotations out"
    raise UserError(
        f"{'; '.join(parts)}; all problems are listed in {report}"
        f"{advice if kinds <= set(DROPPABLE) else ''}"
    )


def _listed(problems: list[Problem]) -> str:
    more = len(problems) - _KINDS
    return choices(problems[:_KINDS]) + (f" and {more} more kinds of problems" if more > 0 else "")


def _summarise(
    splits: dict[str, tuple[dict, list[Problem]]],
    digests: dict[str, str],
    categories: list[dict],
    constants: Constants,
    derived: Collection[str],
) -> dict[str, Any]:
    summary: dict[str, Any] = {
        split: describe(*splits[split], categories) | {"sha256": digests[split]} for split in SPLITS
    }
    summary["classes"] = groups(categories)
    summary["text"] = text(summary)
    if derived:
        summary["constants"] = asdict(constants)
        summary["text"] += f"\n{constants.text([*derived, 'seen'])}"
    return summary


def _normalise_train(
    data: dict[str, Any], thresholds: tuple[int, int] | None, file: str | Path
) -> tuple[dict[str, Any], ClassStatistics]:
    objects = [a for a in data["annotations"] if not a["iscrowd"]]
    labelled = {a["image_id"] for a in data["annotations"] if is_object(a)}
    if all(is_small(image) for image in data["images"] if image["id"] in labelled):
        raise UserError(
            f"{file}: all {len(labelled)} images with objects have a side under {MIN_SIDE} px, "
            "and such images are left out of training: enlarge them with their annotations"
        )
    counted = {**data, "annotations": objects}
    statistics = ClassStatistics.from_annotations(counted, thresholds or THRESHOLDS)
    if thresholds is None:
        cuts = Constants.of(statistics).thresholds
        statistics = ClassStatistics.from_annotations(counted, cuts)
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
            other = f"is {shown(known[number])}" if number in known else "does not exist"
            raise UserError(f"{file}: category {number} ({shown(name)}) {other} in the train split")
    objects = [a for a in data["annotations"] if not a["iscrowd"]]
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


def _refuse_none(
    data: dict[str, Any], problems: list[Problem], file: str | Path, purpose: str
) -> None:
    """Refuses a split without objects, with the reason."""
    annotations = data["annotations"]
    if any(map(is_object, annotations)):
        return
    reasons = [f"left out were {_listed(problems)}"] if problems else []
    for key in ("iscrowd", "ignore"):
        if annotations and all(a.get(key) for a in annotations):
            reasons.append(f"all {len(annotations)} annotations are {key}")
    why = f": {'; '.join(reasons)}" if reasons else ""
    raise UserError(f"{file}: key 'annotations' has no object to {purpose} on{why}")
