"""What a pipeline costs, before anything is submitted: images, time, disk, downloads."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gol.cli.epochs import EpochLength, epoch_length
from gol.config.datasets import load_dataset
from gol.config.pipeline import Pipeline
from gol.config.resolve import read_config
from gol.data.layout import Prepared
from gol.engine.checkpoints import KEEP
from gol.run_folder import RunFolder
from gol.sources.raw import downloads

_STATES = {"SGD": 1, "Adam": 2, "AdamW": 2}  # tensors an optimizer keeps for each parameter


@dataclass(frozen=True)
class Training:
    """The cost of an experiment over all its seeds.

    Attributes:
        experiment: its name.
        seeds: number of trainings.
        epoch: images of an epoch, or None where that is not known yet.
        epochs: epochs of a training.
        batch: images of an iteration.
        parameters: of the model, or None where they are not known until the dataset is prepared.
        disk: bytes of what a training keeps, its checkpoints and the weights; or None, likewise.
        throughput: images per second of one device, or None where nobody said.
        device: what that was measured on, or None where it was given.
    """

    experiment: str
    seeds: int
    epoch: EpochLength | None
    epochs: int
    batch: int
    parameters: int | None
    disk: int | None
    throughput: float | None
    device: str | None = None

    @property
    def iterations(self) -> int | None:
        """Iterations of one training, at least."""
        return self.epoch and self.epochs * math.ceil(self.epoch.least / self.batch)

    def images(self, bound: str = "least") -> int | None:
        """Images that all trainings together take in."""
        return self.epoch and self.seeds * self.epochs * getattr(self.epoch, bound)

    def hours(self, bound: str = "least") -> float | None:
        """Hours of one device for all trainings."""
        images = self.images(bound)
        return images / self.throughput / 3600 if images and self.throughput else None


def plan(
    pipeline: Pipeline, throughput: float | None = None, measured: Iterable[str | Path] = ()
) -> list[Training]:
    """Estimates every experiment of a pipeline.

    Args:
        pipeline: the checked pipeline file.
        throughput: images per second of one device, for all experiments.
        measured: run folders whose throughput holds for experiments of the same detector, backbone
            and precision; the pipeline's own finished runs are taken too.

    Raises:
        UserError: a config does not resolve, a folder holds no finished run.
    """
    from gol.config.resolve import load_experiment

    speeds = _speeds(pipeline, measured)
    sizes: dict[str, tuple[int, int, int]] = {}
    epochs: dict[tuple, EpochLength | None] = {}
    trainings = []
    for name in pipeline.experiments:
        reference, prepared = pipeline.dataset_of(name), Path(pipeline.data(name))
        config = load_experiment(name, {**pipeline.overrides(name), "dataset": reference}, prepared)
        dataset, model = load_dataset(reference), json.dumps(config.model, sort_keys=True)
        # A loss may want class statistics that are not there yet.
        known = dataset.statistics or Prepared(prepared).classes.exists()
        if known and model not in sizes:
            sizes[model] = count_parameters(config.model)
        data = (reference, config.data.train.get("oversample_thr"))
        if data not in epochs:
            epochs[data] = epoch_length(dataset, prepared, data[1])
        speed, device = speeds.get(_kind(config.gol.axes), (None, None))
        trainings.append(
            Training(
                experiment=name,
                seeds=len(pipeline.seeds),
                epoch=epochs[data],
                epochs=config.runner.max_epochs,
                batch=config.gol.global_batch,
                parameters=sizes[model][0] if known else None,
                disk=disk_bytes(*sizes[model], config.optimizer) if known else None,
                throughput=throughput or speed,
                device=None if throughput else device,
            )
        )
    return trainings


def count_parameters(model: Any) -> tuple[int, int, int]:
    """Numbers in a model's parameters, in those of them that are trained, and in its buffers.

    Args:
        model: key ``model`` of a resolved config.
    """
    import torch

    import gol.models  # noqa: F401  (patches mmdet, which cannot be imported before)

    # isort: split
    from mmdet.models import build_detector

    try:
        with torch.device("meta"):  # shapes alone, no memory and no random numbers
            detector = build_detector(model)
    except RuntimeError:  # Swin computes with tensors while it is built
        detector = build_detector(model)
    parameters = list(detector.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    buffers = sum(tensor.numel() for tensor in detector.state_dict().values())
    total = sum(p.numel() for p in parameters)
    return total, trained, buffers - total


def disk_bytes(parameters: int, trained: int, buffers: int, optimizer: Mapping[str, Any]) -> int:
    """Bytes of a finished run's checkpoints (float32 weights, optimizer) and ``model.pth``."""
    states = _STATES.get(optimizer["type"], max(_STATES.values()))
    if optimizer["type"] == "SGD" and not optimizer.get("momentum"):
        states = 0
    weights = 4 * (parameters + buffers)
    return KEEP * (weights + 4 * states * trained) + weights


def download_bytes(datasets: Iterable[str]) -> tuple[int, list[str]]:
    """Bytes of the files that datasets download, each file once, and those of unknown size."""
    files = {file: None for name in datasets for file in load_dataset(name).download}
    sizes = {file: downloads()[file].get("bytes") for file in files}
    return sum(filter(None, sizes.values())), [file for file, size in sizes.items() if not size]


def _kind(axes: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(axes[axis] for axis in ("detector", "backbone", "precision"))


def _speeds(pipeline: Pipeline, measured: Iterable[str | Path]) -> dict[tuple, tuple[float, str]]:
    """Images per second of one device in finished runs (their mean), and the device."""
    own = (RunFolder(run) for name in pipeline.experiments for run in pipeline.runs(name))
    found: dict[tuple, list[float]] = {}
    devices = {}
    for run in [*map(RunFolder, measured), *(run for run in own if run.summary.exists())]:
        kind = _kind(read_config(run.path)["gol"]["axes"])
        train = run.read_summary()
        devices[kind] = train.device.partition(":")[0]
        found.setdefault(kind, []).append(train.images_per_second / train.ranks)
    return {kind: (statistics.fmean(speeds), devices[kind]) for kind, speeds in found.items()}
