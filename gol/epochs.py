"""How many images an epoch has, without building the dataset."""

import inspect
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gol.data.statistics import ClassStatistics
from gol.files import read_json


@dataclass(frozen=True)
class EpochLength:
    """Images of an epoch: from ``least`` to ``most``, which are equal where it is known exactly."""

    least: int
    most: int


def epoch_length(
    dataset: Mapping[str, Any], prepared: Path, threshold: float | None
) -> EpochLength | None:
    """Images of an epoch of a dataset, with or without repeat factor sampling.

    Images without annotations are not trained on (mmdet's ``filter_empty_gt``). Without sampling,
    their number follows from the class statistics of the prepared data, of LVIS as published, or
    of the demo, which has objects in every image. With it, each image counts as often as its
    rarest class asks: exactly from a prepared annotation file, else between bounds.

    Args:
        dataset: the definition, a result of ``gol.axes.load_dataset``.
        prepared: folder that ``gol preprocess`` writes or will write.
        threshold: the sampler's, or None without it.

    Returns:
        The number, or None where nothing is known until the dataset is prepared.

    Raises:
        UserError: a prepared file is broken.
    """
    statistics = _statistics(dataset, prepared)
    plain = statistics.annotated_images if statistics else _drawn_images(dataset)
    if plain is None:
        return None
    if threshold is None:
        return EpochLength(plain, plain)
    if (prepared / "train.json").exists():
        exact = repeated_images(_image_classes(prepared / "train.json"), threshold)
        return EpochLength(exact, exact)
    if statistics is None:  # of a demo that is not drawn yet, an image of one class repeats most
        return EpochLength(plain, plain * math.ceil(math.sqrt(threshold * plain)))
    return EpochLength(plain, plain + _most_repeats(statistics, threshold))


def repeated_images(images: Iterable[set], threshold: float) -> int:
    """Images of an epoch with repeat factor sampling.

    A class in the share f of the images has the factor r = max(1, √(threshold / f)), an image the
    largest of its classes, and it is repeated ⌈r⌉ times (Gupta et al. 2019, as mmdet rounds it).

    Args:
        images: the classes of each image; images without any are left out.
        threshold: share of the images below which a class is repeated.
    """
    images = [classes for classes in images if classes]
    counts = Counter(name for classes in images for name in classes)
    repeats = {name: _repeats(count, len(images), threshold) for name, count in counts.items()}
    return sum(max(repeats[name] for name in classes) for classes in images)


def _repeats(count: int, images: int, threshold: float) -> int:
    return math.ceil(max(1.0, math.sqrt(threshold / (count / images))))


def _most_repeats(statistics: ClassStatistics, threshold: float) -> int:
    """The images that sampling adds if no two rare classes share one."""
    images = statistics.annotated_images
    counts = [count for count in statistics.image_counts if count]
    return sum(count * (_repeats(count, images, threshold) - 1) for count in counts)


def _statistics(dataset: Mapping[str, Any], prepared: Path) -> ClassStatistics | None:
    if (prepared / "classes.json").exists():
        return ClassStatistics.load(prepared / "classes.json")
    if dataset["statistics"]:
        return ClassStatistics.published(dataset["statistics"])
    return None


def _drawn_images(dataset: Mapping[str, Any]) -> int | None:
    if dataset["source"] != "demo":
        return None
    from gol.data.demo import draw_demo

    default = inspect.signature(draw_demo).parameters["train_images"].default
    return dataset["draw"].get("train_images", default)


def _image_classes(path: Path) -> Iterable[set]:
    data = read_json(path)
    classes: dict[int, set] = {image["id"]: set() for image in data["images"]}
    for annotation in data["annotations"]:
        classes[annotation["image_id"]].add(annotation["category_id"])
    return classes.values()
