"""The plan of a pipeline as a text of at most 120 columns."""

import shlex
import textwrap

from gol.cli.plan import ASSUMED, ASSUMED_FOR, Cost, Plan
from gol.errors import plural
from gol.progress import format_bytes

_UNKNOWN = "–"
_HEAD = ["experiment", "img/epoch", "epochs", "iterations", "img/s", "{}-h", "params", "disk"]


def format_plan(plan: Plan, options: list[str]) -> str:
    """An aligned table of the experiments, their totals, and how they were estimated.

    Args:
        plan: what to show.
        options: what tells snakemake the pipeline, for the command that the text names.
    """
    seeds, exact = plan.costs[0].seeds, all(map(_is_exact, plan.costs))
    factors = f"{plural(len(plan.costs), 'experiment')} × {plural(seeds, 'seed')}"
    unit = "CPU" if {cost.device for cost in plan.costs} == {"cpu"} else "GPU"
    totals = {
        "runs": f"{plan.runs:,} ({factors})",
        "images": _at_least(plan.images(), exact),
        f"{unit}-hours": _span(plan.hours(), plan.hours("most"), digits=0),
        **_tables(plan, unit),
        "disk": f"{_size(plan.disk)} of checkpoints and weights; data and detections come on top",
    }
    if plan.download or plan.unsized:
        rest = f" and {', '.join(plan.unsized)}, whose size is not published"
        totals["downloads"] = f"{_size(plan.download)}{rest if plan.unsized else ''}"
    if plan.gpus:
        days = _span(plan.days(), plan.days("most"), digits=1)
        totals[f"on {plural(plan.gpus, 'GPU')}"] = f"{days} days, if none ever waits"
    if done := sum(plan.spent.runs.values()):
        totals["done"] = f"{done} of {plural(plan.runs, 'run')}: " + plan.spent.text(
            plan.hours_of_done
        )
    width = max(map(len, totals))
    return "\n".join(
        [
            _aligned([[word.format(unit) for word in _HEAD], *map(_line, plan.costs)]),
            "",
            *(f"{key:<{width}}  {value}" for key, value in totals.items()),
            "",
            *(textwrap.fill(note, 120) for note in _notes(plan)),
            *_advice(plan, options),
        ]
    )


def _tables(plan: Plan, unit: str) -> dict[str, str]:
    """The part that `snakemake reproduce_table` trains."""
    part = plan.of_tables
    if part is None:
        return {}
    hours = _span(part.hours(), part.hours("most"), digits=0)
    return {"of these": f"{plural(part.runs, 'run')}, {hours} {unit}-hours for the tables"}


def _line(cost: Cost) -> list[str]:
    exact, hours = _is_exact(cost), cost.hours()
    return [
        cost.experiment,
        _at_least(cost.epoch and cost.epoch.least, exact),
        str(cost.epochs or _UNKNOWN),
        _at_least(cost.iterations, exact),
        _UNKNOWN if cost.throughput is None else f"{cost.throughput:.3g}",
        _UNKNOWN if hours is None else _at_least(hours, exact),
        _UNKNOWN if cost.parameters is None else f"{cost.parameters / 1e6:.1f} M",
        _size(cost.disk),
    ]


def _notes(plan: Plan) -> list[str]:
    notes, costs = [], plan.costs
    if costs[0].seeds > 1:
        notes.append("Iterations and disk are those of one seed, images and GPU-hours of all.")
    spans = {(c.epoch.least, c.epoch.most) for c in costs if not _is_exact(c)}
    if spans:
        listed = "; ".join(f"{least:,} to {most:,}" for least, most in sorted(spans))
        notes.append(
            "≥: repeat factor sampling makes an epoch longer. By how much is known once the data "
            f"is prepared; the class counts allow {listed} images."
        )
    assumed = any(cost.assumed for cost in costs)
    if assumed:
        notes.append(
            f"Assumes {ASSUMED:g} img/s per GPU ({ASSUMED_FOR}); other GPUs, deeper backbones and "
            "cascades have a throughput of their own."
        )
    if assumed or any(cost.throughput is None for cost in costs):
        notes.append(
            "GPU-hours need a throughput: --throughput IMAGES_PER_SECOND of one GPU, or --measured "
            "RUN, a finished (short) run of that detector and backbone."
        )
    if any(cost.device == "cpu" for cost in costs):
        notes.append("The throughput was measured on the CPU: the hours are those of one core.")
    return notes


def _advice(plan: Plan, options: list[str]) -> list[str]:
    """The command that makes known what is not; on a line of its own, so that it can be copied."""
    if not plan.unprepared:
        return []
    command = ["snakemake", *plan.unprepared, *options]
    return [f"{_UNKNOWN}: not known before the data is prepared:", f"`{shlex.join(command)}`"]


def _is_exact(cost: Cost) -> bool:
    unknown = cost.epoch is None or cost.epochs is None
    return unknown or cost.epoch.least == cost.epoch.most


def _at_least(value: float | None, exact: bool) -> str:
    if value is None:
        return _UNKNOWN
    return ("" if exact else "≥ ") + (f"{value:,.0f}" if value >= 10 else f"{value:.2g}")


def _span(least: float | None, most: float | None, digits: int) -> str:
    if least is None or most is None:
        return _UNKNOWN
    low, high = (f"{value:,.{digits if value >= 1 else 2}f}" for value in (least, most))
    return low if low == high else f"{low} to {high}"


def _size(count: int | None) -> str:
    return _UNKNOWN if count is None else format_bytes(count)


def _aligned(lines: list[list[str]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )
