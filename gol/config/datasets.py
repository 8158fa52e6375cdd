"""Datasets: what a file in ``configs/datasets`` says, as an object."""

import json
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import BeforeValidator, Field, field_validator, model_validator

from gol.config.model import Count, Model, Natural, Number, Positive, Share, Text
from gol.data.prepared import SPLITS, Drawn, Prepared
from gol.errors import UserError, choices, pick, shown, validated
from gol.files import configs_folder, read_yaml
from gol.groups import THRESHOLDS
from gol.sources import raw

Number3 = Annotated[list[Number], Field(min_length=3, max_length=3)]
Positive3 = Annotated[list[Positive], Field(min_length=3, max_length=3)]
Pair = Annotated[list[Count], Field(min_length=2, max_length=2)]


#: The value of a key that follows from the class counts, see :mod:`gol.data.constants`.
AUTO = "auto"
_DERIVED = ("thresholds", "repeat_threshold", "rare_frequency")


def _derived(value: Any) -> Any:
    return None if value == AUTO else value


class Normalize(Model):
    """Pixel values become (value - mean) / std, in the order of the channels."""

    mean: Number3
    std: Positive3
    to_rgb: bool


class Split(Model):
    """The raw files of a split."""

    annotations: Text
    images: Text


class Draw(Model):
    """How the demo is drawn, see :func:`gol.data.demo.draw.draw_demo`."""

    seed: Natural
    train_images: Natural
    val_images: Natural
    size: Natural
    classes: Natural
    steepness: Positive = 1


class Dataset(Model):
    """A dataset; what its file leaves out has the value that stands here.

    Attributes:
        statement: what to bear in mind about it; stands in every table.
        num_classes: number of classes; None: as many as ``gol preprocess`` finds.
        statistics: LVIS version whose published class statistics the losses take; None: those
            that ``gol preprocess`` counts.
        thresholds: the most training images of a rare and a common class, where the annotations
            state no groups.
        decode: whether ``gol preprocess`` reads every image wholly.
        drop_bad: whether it leaves out what is wrong instead of refusing it.
        download: names in ``configs/downloads.yaml`` of the files it is made of.
        image_scales: (width, height) in pixels that images are resized to within, keeping their
            ratio; of several one is drawn.
        pad: images are padded to a multiple of so many pixels.
        repeat_threshold: share of the images below which repeat factor sampling repeats a class.
        rare_frequency: share of the images below which DropLoss and EQL call a class rare.

    The file's ``auto`` for ``thresholds``, ``repeat_threshold`` or ``rare_frequency`` is None here:
    it follows from the class counts.
    """

    statement: Text | None = None
    num_classes: Count | None = None
    statistics: str | None = None
    thresholds: Annotated[Pair | None, BeforeValidator(_derived)] = Field(list(THRESHOLDS))
    decode: bool = True
    drop_bad: bool = False
    download: list[str] = Field([])
    image_scales: Annotated[list[Pair], Field(min_length=1)]
    normalize: Normalize
    pad: Count
    repeat_threshold: Annotated[Share | None, BeforeValidator(_derived)]
    rare_frequency: Annotated[Share | None, BeforeValidator(_derived)]

    @field_validator("thresholds")
    @classmethod
    def _ascending(cls, value: list[int] | None) -> list[int] | None:
        if value and not value[0] < value[1]:
            raise ValueError(f"must be two whole numbers, 0 < rare < common, not {shown(value)}")
        return value

    @field_validator("download")
    @classmethod
    def _downloadable(cls, value: list[str]) -> list[str]:
        for name in value:
            pick("download", name, raw.downloads())
        return value

    @model_validator(mode="after")
    def _published(self) -> Self:
        if self.statistics is not None:
            # imports torch, which planning does without
            from gol.losses.class_statistics import PUBLISHED

            pick("statistics", self.statistics, dict.fromkeys(PUBLISHED))
            if self.num_classes is None:
                raise ValueError("a dataset with key 'statistics' needs the key 'num_classes'")
        return self

    @property
    def derived(self) -> list[str]:
        """The keys whose values follow from the class counts."""
        return [key for key in _DERIVED if getattr(self, key) is None]


class DrawnDataset(Dataset):
    """A dataset that ``gol demo`` draws."""

    source: Literal["demo"]
    draw: Draw

    def files(self, split: str, prepared: str | Path) -> tuple[Path, Path]:
        """A split's raw annotation file and image folder, drawn below the prepared data."""
        drawn = Drawn(Prepared(Path(prepared)).raw)
        return drawn.annotations(split), drawn.images(split)


class FileDataset(Dataset):
    """A dataset of annotation files and image folders."""

    source: Literal["files"]
    train: Split
    val: Split

    def files(self, split: str, prepared: str | Path) -> tuple[Path, Path]:
        """A split's raw annotation file and image folder."""
        part: Split = getattr(self, split)
        return Path(part.annotations), Path(part.images)


class Labelled(Model):
    """An export of a labelling tool, and its image folder if that is another one."""

    annotations: Text
    images: Text | None = None


class Division(Model):
    """How val is divided off, see ``gol split``."""

    share: Annotated[Share, Field(gt=0, lt=1)] = 0.2
    seed: Natural = 0
    by: Text | None = None


class ExportDataset(Dataset):
    """A dataset of exports of a labelling tool, which ``gol import`` brings in.

    Attributes:
        format: of the exports; auto: the one that is recognised.
        train: the export, a folder, a zip or a label file; it may hold val too.
        val: val's export, if it is another one.
        split: how val is divided off where no export says it.
        boxes, crowd, sizes, class_key: the options of ``gol import``.
    """

    source: Literal["files"]
    format: Literal["auto", "coco", "cvat", "labelme", "sagemaker", "via", "voc", "yolo"]
    train: Labelled
    val: Labelled | None = None
    split: Division = Field(Division())
    boxes: Literal["rectangles", "drop"] | None = None
    crowd: Literal["objects", "regions"] | None = None
    sizes: Literal["file", "scale"] | None = None
    class_key: Text | None = None

    @property
    def exports(self) -> dict[str, Labelled]:
        """Split to export, of those that are named."""
        named = {"train": self.train, "val": self.val}
        return {split: export for split, export in named.items() if export}

    def files(self, split: str, prepared: str | Path) -> tuple[Path, Path]:
        """A split's annotation file and image folder, imported below the prepared data."""
        imported = Drawn(Prepared(Path(prepared)).imported)
        return imported.annotations(split), imported.images(split)


_SOURCES = {"demo": DrawnDataset, "files": FileDataset, "exports": ExportDataset}


@cache
def shipped_datasets() -> dict[str, Any]:
    """Name of every dataset in ``configs/datasets`` to what its file says."""
    files = sorted((configs_folder() / "datasets").glob("*.yaml"))
    return {file.stem: read_yaml(file) for file in files}


def _content(dataset: str) -> Any:
    if str(dataset).endswith((".yaml", ".yml")):
        return read_yaml(dataset)
    return pick("dataset", dataset, shipped_datasets())


def load_dataset(dataset: str) -> DrawnDataset | FileDataset | ExportDataset:
    """A dataset by its name in ``configs/datasets`` or from a YAML file.

    Raises:
        UserError: unknown name, unreadable file, unknown or missing key, wrong value.
    """
    content = _content(dataset)
    source = content.get("source") if isinstance(content, dict) else None
    if source not in ("demo", "files"):
        raise UserError(f"dataset {dataset}: key 'source' must be demo or files")
    if source == "demo" and isinstance(content.get("draw"), dict):
        # What a file does not say about the drawing is as in the built-in demo.
        content = {**content, "draw": {**shipped_datasets()["demo"]["draw"], **content["draw"]}}
    if source == "files" and "format" in content:
        source = "exports"
    elif source == "files":
        _check_without_format(content, f"dataset {dataset}")
    return validated(_SOURCES[source], content, f"dataset {dataset}")


def _check_without_format(content: dict[str, Any], where: str) -> None:
    """Names the key ``format`` where all else speaks of an export.

    Raises:
        UserError: a key has a meaning for exports alone, or one is left out that these may lack.
    """
    allowed = choices(get_args(ExportDataset.model_fields["format"].annotation))
    needed = f"the key 'format' ({allowed})"
    own = ExportDataset.model_fields.keys() - FileDataset.model_fields.keys()
    if found := sorted(own & content.keys()):
        raise UserError(f"{where}: key '{found[0]}' needs {needed}")
    if content.keys() - FileDataset.model_fields.keys():
        return  # a misspelt key says more than the one that it stands for
    for split in SPLITS:
        part = content.get(split)
        if part is None or (isinstance(part, dict) and part.keys() == {"annotations"}):
            key = f"{split}.images" if part else split
            raise UserError(f"{where}: key '{key}' is missing; an export alone needs {needed}")


# Snakemake asks once for each job, and a pipeline may have thousands.
@cache
def dataset_definition(dataset: str) -> str:
    """What a dataset's file says and leaves out as text, so that a change of it can be noticed.

    Raises:
        UserError: as :func:`load_dataset`.
    """
    load_dataset(dataset)
    defaults = {k: f.default for k, f in Dataset.model_fields.items() if not f.is_required()}
    return json.dumps({**defaults, **_content(dataset)})


@cache
def annotation_files(dataset: str, prepared: str) -> list[str]:
    """The raw annotation files of the train and the val split."""
    found = load_dataset(dataset)
    return [str(found.files(split, prepared)[0]) for split in SPLITS]


def export_files(dataset: str) -> list[str]:
    """The exports that a dataset names; none for other datasets."""
    found = load_dataset(dataset)
    exports = found.exports if isinstance(found, ExportDataset) else {}
    return [export.annotations for export in exports.values()]


def dataset_downloads(dataset: str) -> list[str]:
    """Names of the downloads that a dataset is made of.

    Raises:
        UserError: no such dataset, or it is not made of downloads.
    """
    names = load_dataset(dataset).download
    if not names:
        raise UserError(f"dataset {dataset} has no key 'download': its files are your own")
    return names


def image_proofs(dataset: str) -> list[str]:
    """The markers of the image folders that a dataset downloads; none for other datasets."""
    entries = [raw.downloads()[name] for name in load_dataset(dataset).download]
    return [str(raw.proof(entry)) for entry in entries if "images" in entry]
