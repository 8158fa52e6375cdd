"""The cells of a bill: hours, throughput, memory and energy of some trainings or detections."""

from collections.abc import Iterable, Sequence

from gol.costs import UNITS, Cost, known_sum, peak
from gol.results.rows import ABSENT, mean_text


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
        text = "Failed and interrupted starts are counted."
        if "GPU" in self.units:
            text += (
                " GPU-h: hours of one GPU. GB: peak memory of a GPU. kWh: what the GPUs took, as "
                "NVML measures it; runs that share a GPU each count all of it."
            )
        if "CPU" in self.units:
            text += " CPU-h: hours of one core"
            text += (
                "; there, GB are those of the process."
                if "GPU" in self.units
                else (". GB: peak memory of the process. kWh is measured on GPUs alone.")
            )
        return text


def _sum(values: Iterable[float | None]) -> str:
    """≥: not all are known."""
    total, complete = known_sum(values)
    if total is None:
        return ABSENT
    text = f"{total:,.0f}" if total >= 100 else f"{total:.3g}"
    text = "< 0.001" if 0 < total < 0.001 else text
    return text if complete else f"≥ {text}"
