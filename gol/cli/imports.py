"""Verbs that bring labels of other tools in."""

import shlex
from pathlib import Path
from typing import Any

from gol.cli.verbs import JSON, OUT, Result, dataset_names, option, verb, whole
from gol.errors import UserError, plural


@verb(
    option("source", type=Path, nargs="?", help="folder, zip or label file, as a tool exports it"),
    option(
        "--dataset",
        complete=dataset_names,
        help="instead of SOURCE and its options: a YAML file with the key format",
    ),
    OUT,
    option(
        "--format",
        dest="form",
        help="coco, cvat, labelme, sagemaker, via, voc or yolo (default: found)",
    ),
    option("--images", type=Path, help="folder of the images, if they are elsewhere"),
    option("--boxes", choices=("rectangles", "drop"), help="what becomes of boxes without masks"),
    option("--crowd", choices=("objects", "regions"), help="what crowd regions (iscrowd) are"),
    option(
        "--sizes",
        choices=("file", "scale"),
        help="where an image has another size than its annotations say: they are pixels of the "
        "file, or are scaled to it",
    ),
    option("--class-key", metavar="KEY", help="attribute of VIA's regions that is the class"),
    option("--drop-bad", action="store_true", help="leave out what is wrong"),
    JSON,
)
def import_(
    source: Path | None,
    dataset: str | None,
    out: Path,
    form: str | None,
    images: Path | None,
    drop_bad: bool,
    **answers: Any,
) -> Result:
    """Read the export of a labelling tool as annotations for `gol preprocess`."""
    from gol.data.imports.door import import_export
    from gol.data.imports.output import remove_dataset_file
    from gol.data.imports.repair import Answers
    from gol.data.imports.summary import file_name
    from gol.data.prepared import SPLITS

    if (source is None) == (dataset is None):
        raise UserError("give either SOURCE or --dataset")
    if dataset is not None:
        if form or images or drop_bad or any(answers.values()):
            raise UserError("--dataset takes its options from the dataset's file")
        return _import_dataset(dataset, out)
    summary = import_export(source, out, form, images, Answers(**answers), drop_bad)
    splits = summary["splits"]
    if all(file_name(split) in splits for split in SPLITS):
        if rest := splits.get(file_name(None)):
            unused = f"{plural(rest['images'], 'image')} in neither train nor val, not used"
            summary["text"] += f"\n{out / file_name(None)}: {unused}"
        return _ready(summary, out, summary["images"])
    remove_dataset_file(out)
    command = shlex.join(
        map(str, ("gol", "split", out / next(iter(splits)), "--out", out / "split"))
    )
    return Result(summary, f"{summary['text']}\nnext: {command}")


def _ready(summary: dict[str, Any], out: Path, images: str | None) -> Result:
    """What was written, with its dataset file, and the command that trains on it."""
    from gol.data.imports.output import write_dataset_file

    file, unknown = write_dataset_file(out, images)
    missing = f"\nto be named in {file}: FOLDER, which has the images" if unknown else ""
    command = "snakemake reproduce_table --configfile configs/own.yaml --config"
    text = f"""{summary["text"]}{missing}
next: {command} {shlex.quote(f"dataset={file}")}
without a GPU: configs/own_small.yaml in place of configs/own.yaml"""
    return Result(summary, text)


def _import_dataset(name: str, out: Path) -> Result:
    from gol.config.datasets import ExportDataset, load_dataset
    from gol.data.imports.repair import Answers
    from gol.data.imports.splits import import_splits

    dataset = load_dataset(name)
    if not isinstance(dataset, ExportDataset):
        raise UserError(f"dataset {name} has no key 'format': nothing is to be imported")
    exports = {split: (e.annotations, e.images) for split, e in dataset.exports.items()}
    form = None if dataset.format == "auto" else dataset.format
    answers = Answers(dataset.boxes, dataset.crowd, dataset.sizes, dataset.class_key)
    division = dataset.split.model_dump(exclude_unset=True)
    text = import_splits(exports, out, form, answers, dataset.drop_bad, division)
    return Result({"out": str(out), "text": text}, text)


def _share(text: str) -> float:
    import argparse

    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} must be a number between 0 and 1")
    return value


@verb(
    option("file", type=Path, help="annotations, as `gol import` writes them"),
    OUT,
    option("--val", type=_share, default=0.2, help="share of the images in val (default 0.2)"),
    option("--seed", type=whole(0), default=0, help="0, 1, 2 … (default 0)"),
    option("--by", metavar="KEY", help="key of the images that stay together, e.g. video_id"),
    JSON,
)
def split(file: Path, out: Path, val: float, seed: int, by: str | None) -> Result:
    """Divide annotations into train and val, so that every class that can be is in both."""
    from gol.data.split import split_annotations

    summary = split_annotations(file, out, val, seed, by)
    return _ready(summary, out, summary["images"])
