"""The cells of a bill: hours, throughput, memory and energy of some trainings or detections."""

from collections.abc import Iterable, Sequence

from gol.costs import UNITS, Cost, known_sum, peak, total
from gol.results.rows import ABSENT, mean_text


def detection_label(scoring: str, only: bool) -> str:
    """What the line of a detection is called, below its training.

    Args:
        scoring: its activation.
        only: whether the training has no other detection.
    """
    return "↳ detection" if only else f"↳ detection, scored with {scoring}"


class Bill:
    """The columns that a table of costs needs.

    Args:
        costs: all that the table shows.

    Attributes:
        units: what hours there are hours of, each of which is a column.
        heads: the columns' heads.
    """

    def __init__(self, costs: Iterable[Cost]) -> None:
        found = {unit for cost in costs for unit in cost.hours}
        self.units = [unit for unit in UNITS if unit in found]
        self.heads = [*(f"{unit}-h" for unit in self.units), "images/s", "GB", "kWh"]

    def cells(self, costs: Sequence[Cost], alike: bool = True) -> list[str]:
        """The cells of some trainings or detections together: hours and energy are sums.

        Args:
            costs: of these.
            alike: whether they are seeds of one experiment, whose throughput has a mean.
        """
        memory = peak(cost.memory_gb for cost in costs)
        return [
            *(_sum(cost.hours_of(unit) for cost in costs) for unit in self.units),
            mean_text(cost.images_per_second for cost in costs) if alike else "",
            ABSENT if memory is None else f"{memory:.1f}",
            _sum(cost.energy_kwh for cost in costs),
        ]

    @property
    def words(self) -> str:
        """What the columns are, as sentences."""
        parts = ["Failed and interrupted starts are included."]
        if "GPU" in self.units:
            parts.append(
                "GPU-h: hours of one GPU. GB: peak memory of one GPU. kWh: energy of the GPUs, as "
                "NVML measures it. Runs that share a GPU each count all of it."
            )
        if "CPU" in self.units:
            parts.append("CPU-h: hours of one core; GB: peak memory of one process; no kWh.")
        parts.append(f"{ABSENT}: not known; ≥: not all of it is known.")
        return " ".join(parts)


def _sum(values: Iterable[float | None]) -> str:
    value, complete = known_sum(values)
    if value is None:
        return ABSENT
    return amount(value) if complete else f"≥ {amount(value)}"


def amount(value: float) -> str:
    """Hours or kWh, to three digits."""
    if value < 0.001:
        return "< 0.001" if value else "0"
    return f"{value:,.{3 if value < 1 else 2 if value < 10 else 1 if value < 100 else 0}f}"


def in_words(costs: Iterable[Cost]) -> str:
    """Hours and kWh of some trainings and detections together, as far as they are known."""
    found = total(costs)
    names = {"gpu_hours": "GPU-hours", "cpu_hours": "CPU-hours", "energy_kwh": "kWh"}
    parts = [f"{amount(found[key])} {name}" for key, name in names.items() if key in found]
    return " and ".join(parts) or ABSENT
