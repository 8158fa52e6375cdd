"""What a pipeline takes, before anything is submitted: images, time, disk, downloads."""

import json
import math
import shlex
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from gol.cli.epochs import EpochLength, epoch_length
from gol.cli.spent import Spent, spent
from gol.config.axes import axis_values
from gol.config.datasets import load_dataset
from gol.config.experiments import trained_as
from gol.config.pipeline import Pipeline
from gol.config.resolve import read_config
from gol.costs import devices_of
from gol.data.prepared import Prepared
from gol.engine.checkpoints import KEEP
from gol.errors import UserError
from gol.run_folder import RunFolder
from gol.sources.raw import downloads
from gol.sources.weights import weights_path

#: Images per second of one device at 1333 x 800 where nothing is measured, and the source.
ASSUMED, ASSUMED_FOR = 23.0, "Mask R-CNN R-50 on an A100, by NVIDIA's DeepLearningExamples"
_FULL_SIZE = 1000  # pixels of the longer side from which that says something
_STATES = {"SGD": 1, "Adam": 2, "AdamW": 2}  # tensors an optimizer keeps for each parameter


@dataclass(frozen=True)
class Cost:
    """What an experiment takes.

    Attributes:
        experiment: its name.
        seeds: number of runs.
        epoch: images per epoch, or None while that is unknown.
        epochs: epochs per run; None where iterations are counted.
        max_iters: iterations per run, where these are counted.
        batch: images per iteration.
        parameters: number of the model's parameters, or None until the dataset is prepared.
        disk: bytes that a run keeps, its checkpoints and weights, or None until then.
        throughput: images per second on one device, or None if unknown.
        device: what that was measured on, or None if the user gave the throughput.
        assumed: whether the throughput is :data:`ASSUMED`.
    """

    experiment: str
    seeds: int
    epoch: EpochLength | None
    epochs: int | None
    batch: int
    parameters: int | None
    disk: int | None
    throughput: float | None
    device: str | None = None
    max_iters: int | None = None
    assumed: bool = False

    @property
    def iterations(self) -> int | None:
        """Iterations of one run, at least."""
        if self.epochs is None:
            return self.max_iters
        return self.epoch and self.epochs * math.ceil(self.epoch.least / self.batch)

    def images(self, bound: str = "least") -> int | None:
        """Images that all runs together train on."""
        if self.epochs is None:
            return self.seeds * self.max_iters * self.batch
        return self.epoch and self.seeds * self.epochs * getattr(self.epoch, bound)

    def hours(self, bound: str = "least") -> float | None:
        """Hours of one device for all runs."""
        images = self.images(bound)
        return images / self.throughput / 3600 if images and self.throughput else None


@dataclass(frozen=True)
class Plan:
    """What a pipeline takes; None stands for what is not known yet.

    Attributes:
        costs: of each experiment.
        download: bytes of the files to download, each file once.
        unsized: the files among them whose size is not published.
        unprepared: files that the pipeline writes when it prepares the datasets that are missing.
        spent: what the runs that are done took.
        gpus: devices that work at once, or None.
        shown: the trainings that the tables show, where these are not all.
    """

    costs: list[Cost]
    download: int
    unsized: list[str]
    unprepared: list[str]
    spent: Spent
    gpus: int | None = None
    shown: frozenset[str] = frozenset()

    @property
    def runs(self) -> int:
        """Number of runs: experiments times seeds."""
        return sum(cost.seeds for cost in self.costs)

    def images(self, bound: str = "least") -> int | None:
        """Images that all runs together train on."""
        return _sum(cost.images(bound) for cost in self.costs)

    def hours(self, bound: str = "least") -> float | None:
        """Hours of one device for all runs."""
        return _sum(cost.hours(bound) for cost in self.costs)

    @property
    def of_tables(self) -> "Plan | None":
        """The same for what the tables show alone; None where that is all."""
        costs = [cost for cost in self.costs if cost.experiment in self.shown]
        return replace(self, costs=costs, shown=frozenset()) if costs else None

    @property
    def hours_of_done(self) -> float | None:
        """Hours of one device that the plan has, at least, for the runs that are done."""
        done = [(cost, self.spent.runs[cost.experiment]) for cost in self.costs]
        return _sum(
            None if (hours := cost.hours()) is None else hours * runs / cost.seeds
            for cost, runs in done
            if runs
        )

    def days(self, bound: str = "least") -> float | None:
        """Days until all runs are done, if no device ever waits."""
        hours = self.hours(bound)
        return hours and self.gpus and hours / self.gpus / 24

    @property
    def disk(self) -> int | None:
        """Bytes that all runs keep."""
        return _sum(cost.disk and cost.seeds * cost.disk for cost in self.costs)

    def values(self) -> dict[str, Any]:
        """All of it as JSON; what is only bounded is an object with ``least`` and ``most``."""
        return {
            "experiments": [
                {
                    "experiment": cost.experiment,
                    "seeds": cost.seeds,
                    "images_per_epoch": cost.epoch and asdict(cost.epoch),
                    "epochs": cost.epochs,
                    "iterations": cost.iterations,
                    "images_per_second": cost.throughput,
                    "device": cost.device,
                    "assumed": cost.assumed,
                    "gpu_hours": _bounds(cost.hours),
                    "parameters": cost.parameters,
                    "disk_bytes": cost.disk,
                }
                for cost in self.costs
            ],
            "runs": self.runs,
            "images": _bounds(self.images),
            "gpu_hours": _bounds(self.hours),
            "tables": (part := self.of_tables)
            and {"runs": part.runs, "gpu_hours": _bounds(part.hours)},
            "gpus": self.gpus,
            "days": _bounds(self.days),
            "disk_bytes": self.disk,
            "download_bytes": self.download,
            "downloads_of_unknown_size": self.unsized,
            "unprepared": self.unprepared,
            "spent": self.spent.values(),
        }


def _sum(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if None in values else sum(values)


def _bounds(value: Callable[[str], float | None]) -> dict[str, float] | None:
    least = value("least")
    return None if least is None else {"least": least, "most": value("most")}


def estimate(
    pipeline: Pipeline,
    throughput: float | None = None,
    measured: Iterable[str | Path] = (),
    gpus: int | None = None,
) -> Plan:
    """Estimates what a pipeline takes.

    Args:
        pipeline: the checked pipeline file.
        throughput: images per second of one device, for all experiments; where neither this nor a
            measured one is known, images of full size are reckoned with :data:`ASSUMED`.
        measured: run folders whose throughput holds for experiments of the same detector, backbone
            and precision; the pipeline's own finished runs are taken too.
        gpus: devices that work at once.

    Raises:
        UserError: a config does not resolve, or a folder is not a finished run.
    """
    costs = _costs(pipeline, throughput, measured)
    download, unsized = download_bytes(pipeline.datasets)
    unsized += _missing_inits(pipeline)
    incomplete = [cost.experiment for cost in costs if cost.epoch is None or cost.disk is None]
    unprepared = dict.fromkeys(str(_prepared(pipeline, name).classes) for name in incomplete)
    shown = frozenset(map(trained_as, pipeline.layout.experiments))
    rest = shown if shown < set(pipeline.trainings) else frozenset()
    return Plan(costs, download, unsized, list(unprepared), spent(pipeline), gpus, rest)


def check_counted(pipeline: Pipeline, options: list[str]) -> None:
    """Refuses a pipeline whose configs follow from class counts that are not there yet.

    Args:
        pipeline: its content.
        options: what tells snakemake the pipeline, for the command that counts.

    Raises:
        UserError: the classes of a dataset are still to be counted.
    """
    for name in pipeline.trainings:
        dataset, counts = load_dataset(pipeline.dataset_of(name)), _prepared(pipeline, name).classes
        known = dataset.statistics or counts.exists()
        if not known and (dataset.derived or dataset.num_classes is None):
            command = shlex.join(["snakemake", str(counts), *options])
            raise UserError(
                f"the plan of dataset '{pipeline.dataset_of(name)}' follows from its class counts: "
                f"prepare it first, with `{command}`"
            )


def _costs(
    pipeline: Pipeline, throughput: float | None, measured: Iterable[str | Path]
) -> list[Cost]:
    from gol.config.resolve import load_experiment

    speeds = _speeds(pipeline, measured)
    sizes: dict[str, tuple[int, int, int]] = {}
    epochs: dict[tuple, EpochLength | None] = {}
    costs = []
    for name in pipeline.trainings:
        reference, prepared = pipeline.dataset_of(name), _prepared(pipeline, name)
        overrides = {**pipeline.overrides(name), "dataset": reference}
        config = load_experiment(name, overrides, prepared.folder)
        dataset, model = load_dataset(reference), json.dumps(config.model, sort_keys=True)
        # A loss may want class statistics that are not there yet.
        known = dataset.statistics or prepared.classes.exists()
        if known and model not in sizes:
            sizes[model] = count_parameters(config.model)
        data = (reference, config.data.train.get("oversample_thr"))
        if data not in epochs:
            epochs[data] = epoch_length(dataset, prepared.folder, data[1])
        speed, device = speeds.get(_kind(config.gol.axes), (None, None))
        assumed = not (throughput or speed) and _longest_side(config) >= _FULL_SIZE
        costs.append(
            Cost(
                experiment=name,
                seeds=len(pipeline.seeds),
                epoch=epochs[data],
                epochs=config.runner.get("max_epochs"),
                max_iters=config.runner.get("max_iters"),
                batch=config.gol.global_batch,
                parameters=sizes[model][0] if known else None,
                disk=disk_bytes(*sizes[model], config.optimizer) if known else None,
                throughput=ASSUMED if assumed else throughput or speed,
                device=None if throughput else device,
                assumed=assumed,
            )
        )
    return costs


def _prepared(pipeline: Pipeline, name: str) -> Prepared:
    return Prepared(Path(pipeline.data(name)))


def count_parameters(model: Any) -> tuple[int, int, int]:
    """Sizes of a model: all its parameters, those that are trained, and its buffers.

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


def _missing_inits(pipeline: Pipeline) -> list[str]:
    """Detectors that trainings start from and that are not here; no size is published."""
    known = axis_values("init")
    wanted = dict.fromkeys(map(pipeline.init_of, pipeline.experiments))
    paths = [weights_path(known[name]) for name in wanted if known.get(name)]
    return [path.name for path in paths if not path.exists()]


def _longest_side(config: Any) -> int:
    """Pixels of the longer side of an image as it is tested."""
    return max(config.data.test.pipeline[1]["img_scale"])


def _kind(axes: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(axes[axis] for axis in ("detector", "backbone", "precision"))


def _speeds(pipeline: Pipeline, measured: Iterable[str | Path]) -> dict[tuple, tuple[float, str]]:
    """Images per second of a GPU or a core in finished runs (their mean), and which it is."""
    own = (RunFolder(run) for name in pipeline.trainings for run in pipeline.runs(name))
    found: dict[tuple, list[float]] = {}
    devices = {}
    for run in [*map(RunFolder, measured), *(run for run in own if run.summary.exists())]:
        kind = _kind(read_config(run.path)["gol"]["axes"])
        train = run.read_summary()
        devices[kind] = train.device.partition(":")[0]
        found.setdefault(kind, []).append(train.images_per_second / devices_of(run, train))
    return {kind: (statistics.fmean(speeds), devices[kind]) for kind, speeds in found.items()}
