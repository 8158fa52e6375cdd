"""What trainings and detections took: hours of their devices, memory and energy.

Whoever trains or detects keeps a list of its starts, those that were killed or failed included, in
a file beside what it makes (:mod:`gol.engine.bill`); tables, reports, MLflow and ``gol plan`` read
it here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from gol.errors import validated
from gol.files import read_json, write_json
from gol.files.digests import log_lines
from gol.run_folder import RunFolder, RunSummary

UNITS = ("GPU", "CPU")


class Attempt(BaseModel):
    """One start of a training or a detection, as far as it is known.

    Attributes:
        started: Unix time.
        seconds: for how long it has held its devices.
        device: ``cpu``, or the name of the GPU.
        devices: how many: a GPU per rank, or on the CPU so many cores as a rank has threads.
        memory_gb: peak of the rank that took most, in 10^9 bytes: of the GPU's memory, or on the
            CPU of the process.
        energy_kwh: what all its GPUs took; None where nothing measures it.
        images_per_second: throughput of a detection that is done.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    started: float
    seconds: float
    device: str
    devices: int
    memory_gb: float | None = None
    energy_kwh: float | None = None
    images_per_second: float | None = None

    @property
    def unit(self) -> str:
        """One of :data:`UNITS`: what its hours are hours of."""
        return unit_of(self.device)

    @property
    def hours(self) -> float:
        """Hours of its devices together."""
        return self.seconds * self.devices / 3600


class _Attempts(BaseModel):
    attempts: list[Attempt]


@dataclass(frozen=True)
class Cost:
    """What a training or a detection took, over all its starts; None stands for what is unknown.

    Attributes:
        hours: hours of GPUs and of CPU cores, by :data:`UNITS`; empty if unknown.
        images_per_second: throughput of all devices together.
        memory_gb: as of :class:`Attempt`.
        energy_kwh: as of :class:`Attempt`; None where a start does not know it.
        device: what the last start ran on, as of :class:`Attempt`.
    """

    hours: Mapping[str, float]
    images_per_second: float | None = None
    memory_gb: float | None = None
    energy_kwh: float | None = None
    device: str | None = None

    def hours_of(self, unit: str) -> float | None:
        """Hours of GPUs or of CPU cores; None if unknown."""
        return self.hours.get(unit, 0.0) if self.hours else None


def unit_of(device: str) -> str:
    """What a device's hours are hours of, by its name: ``cpu`` or any other."""
    return "CPU" if device == "cpu" else "GPU"


def known_sum(values: Iterable[float | None]) -> tuple[float | None, bool]:
    """The sum of the values that are known, None if there are none; whether all are known."""
    values = list(values)
    known = [value for value in values if value is not None]
    return (sum(known) if known else None), len(known) == len(values)


def total(costs: Iterable[Cost]) -> dict[str, float]:
    """Of several trainings and detections together, as far as it is known.

    Returns:
        ``gpu_hours``, ``cpu_hours`` and ``energy_kwh``, sums, and ``peak_memory_gb``, the highest;
        what is unknown or 0 is left out.
    """
    costs = list(costs)
    sums = {f"{unit.lower()}_hours": [cost.hours_of(unit) for cost in costs] for unit in UNITS}
    sums["energy_kwh"] = [cost.energy_kwh for cost in costs]
    found = {key: known_sum(values)[0] for key, values in sums.items()}
    found["peak_memory_gb"] = peak(cost.memory_gb for cost in costs)
    return {key: value for key, value in found.items() if value}


def peak(values: Iterable[float | None]) -> float | None:
    """The highest of the values that are known, None if there are none."""
    return max((value for value in values if value is not None), default=None)


def read_attempts(path: Path) -> list[Attempt]:
    """The starts that a file lists; none where there is no file, as before 0.7.0.

    Raises:
        UserError: the file is damaged.
    """
    if not path.exists():
        return []
    return validated(_Attempts, {"attempts": read_json(path)}, str(path)).attempts


def write_attempts(path: Path, attempts: Iterable[Attempt], writer: str) -> None:
    """Writes such a file.

    Args:
        path: the file.
        attempts: what it lists.
        writer: the command that writes it.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    content = [attempt.model_dump(exclude_none=True) for attempt in attempts]
    write_json(path, content, indent=1, writer=writer)


def training_cost(run: RunFolder) -> Cost:
    """What a finished training took; of one of before 0.7.0 what its other files say.

    Raises:
        UserError: it is not finished, or a file is damaged.
    """
    train = run.read_summary()
    attempts = read_attempts(run.cost)
    found = _cost(attempts)
    if sum(attempt.seconds for attempt in attempts) < train.seconds:  # it began before 0.7.0
        hours = train.seconds * devices_of(run, train) / 3600
        found = Cost({unit_of(train.device): hours}, memory_gb=_logged_memory(run))
    return replace(found, images_per_second=train.images_per_second)


def detection_cost(run: RunFolder, scoring: str) -> Cost:
    """What the detections with an activation took; nothing is known of those of before 0.7.0.

    The detection of the best of each class, if there was one, is part of it; the throughput is that
    of the other.

    Raises:
        UserError: a file is damaged.
    """
    usual, best = (
        read_attempts(run.cost_of(run.detections(scoring, per_class)))
        for per_class in (False, True)
    )
    if not usual:
        return _cost([])  # not a part of it
    return replace(_cost([*best, *usual]), images_per_second=_cost(usual).images_per_second)


def devices_of(run: RunFolder, train: RunSummary) -> int:
    """How many GPUs a run was trained on, or CPU cores: as many as its ranks have threads.

    Raises:
        UserError: the config cannot be read.
    """
    threads = read_json(run.config)["gol"].get("threads", 1)
    return train.ranks * (threads if unit_of(train.device) == "CPU" else 1)


def _cost(attempts: list[Attempt]) -> Cost:
    hours: dict[str, float] = {}
    for attempt in attempts:
        hours[attempt.unit] = hours.get(attempt.unit, 0.0) + attempt.hours
    energy, complete = known_sum(attempt.energy_kwh for attempt in attempts)
    return Cost(
        hours,
        next((a.images_per_second for a in reversed(attempts) if a.images_per_second), None),
        peak(attempt.memory_gb for attempt in attempts),
        energy if complete else None,
        attempts[-1].device if attempts else None,
    )


def _logged_memory(run: RunFolder) -> float | None:
    """The peak that ``metrics.jsonl`` tells, which knows none before 0.5.0."""
    if not run.metrics.exists():
        return None
    found = (point.get("memory_gb") for _, point in log_lines(run.metrics) if point)
    return peak(float(value) for value in found if isinstance(value, Real))
