"""How many images an epoch has: counted once the data is prepared, estimated before that."""

import math
from dataclasses import dataclass
from pathlib import Path

from gol.config.datasets import DrawnDataset, FileDataset
from gol.data.prepared import Prepared
from gol.losses.class_statistics import ClassStatistics


@dataclass(frozen=True)
class EpochLength:
    """Images per epoch: ``least`` to ``most``, which are equal where the number is known."""

    least: int
    most: int


def epoch_length(
    dataset: DrawnDataset | FileDataset, prepared: Path, threshold: float | None
) -> EpochLength | None:
    """Images per epoch of a dataset, with or without repeat factor sampling.

    Exact from the annotation store that ``gol preprocess`` writes. Before, the number of images
    with annotations (mmdet trains on no others) is known of LVIS, as published, and of the demo,
    which has objects in every image; with repeat factors that is the least.

    Args:
        dataset: a result of ``gol.config.datasets.load_dataset``.
        prepared: folder that ``gol preprocess`` writes or will write.
        threshold: share of the images below which a class is repeated, or None.

    Returns:
        The number, or None where nothing is known until the dataset is prepared.

    Raises:
        UserError: a prepared file is broken.
    """
    store = Prepared(prepared).store("train")
    if store.exists():
        return _counted(store, threshold)
    if dataset.statistics:
        statistics = ClassStatistics.published(dataset.statistics)
        images = statistics.annotated_images
        longest = images + _repeats(statistics, threshold) if threshold else images
        return EpochLength(images, longest)
    if dataset.source != "demo":
        return None
    images = dataset.draw.train_images
    # At most as many as if every image had a class of its own.
    return EpochLength(images, images * _factor(1, images, threshold) if threshold else images)


def _counted(store: Path, threshold: float | None) -> EpochLength:
    from gol.models import build_dataset

    config = {"type": "InstanceDataset", "ann_file": str(store), "pipeline": []}
    if threshold:
        config = {"type": "ClassBalancedDataset", "oversample_thr": threshold, "dataset": config}
    images = len(build_dataset(config))
    return EpochLength(images, images)


def _factor(count: int, images: int, threshold: float) -> int:
    """How often an image of a class counts, as mmdet rounds it (Gupta et al. 2019)."""
    return math.ceil(max(1.0, math.sqrt(threshold / (count / images))))


def _repeats(statistics: ClassStatistics, threshold: float) -> int:
    """The images that repeating adds if no two rare classes share an image."""
    counts = [count for count in statistics.image_counts if count]
    return sum(n * (_factor(n, statistics.annotated_images, threshold) - 1) for n in counts)
