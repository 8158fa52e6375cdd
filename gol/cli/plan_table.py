"""The plan of a pipeline as a text of at most 120 columns."""

import textwrap
from collections.abc import Iterable, Sequence

from gol.cli.plan import Training
from gol.progress import format_bytes

_UNKNOWN = "–"
_HEAD = ["experiment", "img/epoch", "epochs", "iterations", "img/s", "GPU-h", "params"]
_HEAD += ["disk"]


def format_plan(
    trainings: Sequence[Training], downloads: tuple[int, list[str]], gpus: int | None = None
) -> str:
    """An aligned table of the trainings, their totals, and how it was reckoned.

    Args:
        trainings: result of ``gol.cli.plan.plan``.
        downloads: result of ``gol.cli.plan.download_bytes``.
        gpus: devices that work at once; adds the days that all that takes.
    """
    seeds, exact = trainings[0].seeds, all(map(_is_exact, trainings))
    hours = [_sum(training.hours(bound) for training in trainings) for bound in ("least", "most")]
    disk = _sum(t.disk and t.seeds * t.disk for t in trainings)
    totals = {
        "trainings": f"{seeds * len(trainings):,} ({len(trainings)} experiments × {seeds} seeds)",
        "images": _at_least(_sum(training.images() for training in trainings), exact),
        "GPU-hours": _span(*hours, digits=0),
        "disk": f"{_size(disk)} of checkpoints and weights; data and detections come on top",
    }
    if any(downloads):
        known, unknown = downloads
        rest = f" and {', '.join(unknown)}, whose size is not published" if unknown else ""
        totals["downloads"] = f"{_size(known)}{rest}"
    if gpus:
        days = (value and value / gpus / 24 for value in hours)
        totals[f"on {gpus} GPUs"] = f"{_span(*days, digits=1)} days, if none ever waits"
    width = max(map(len, totals))
    return "\n".join(
        [
            _aligned([_HEAD, *map(_line, trainings)]),
            "",
            *(f"{key:<{width}}  {value}" for key, value in totals.items()),
            "",
            *(textwrap.fill(note, 120) for note in _notes(trainings)),
        ]
    )


def _line(training: Training) -> list[str]:
    exact, hours = _is_exact(training), training.hours()
    return [
        training.experiment,
        _at_least(training.epoch and training.epoch.least, exact),
        str(training.epochs),
        _at_least(training.iterations, exact),
        _UNKNOWN if training.throughput is None else f"{training.throughput:.3g}",
        _UNKNOWN if hours is None else _at_least(hours, exact),
        _UNKNOWN if training.parameters is None else f"{training.parameters / 1e6:.1f} M",
        _size(training.disk),
    ]


def _notes(trainings: Sequence[Training]) -> list[str]:
    notes = []
    if trainings[0].seeds > 1:
        notes.append("Iterations and disk are those of one seed, images and GPU-hours of all.")
    spans = {(t.epoch.least, t.epoch.most) for t in trainings if not _is_exact(t)}
    if spans:
        listed = "; ".join(f"{least:,} to {most:,}" for least, most in sorted(spans))
        notes.append(
            "≥: repeat factor sampling makes an epoch longer. By how much is known once the data "
            f"is prepared; the class counts allow {listed} images."
        )
    if any(training.throughput is None for training in trainings):
        notes.append(
            "GPU-hours need a throughput: --throughput IMAGES_PER_SECOND of one GPU, or --measured "
            "RUN, a finished (short) training of that detector and backbone."
        )
    if any(training.device == "cpu" for training in trainings):
        notes.append("The throughput was measured on the CPU: the hours are those of a CPU.")
    if any(training.epoch is None or training.disk is None for training in trainings):
        notes.append("–: not known before the dataset is prepared (`gol preprocess`).")
    return notes


def _is_exact(training: Training) -> bool:
    return training.epoch is None or training.epoch.least == training.epoch.most


def _sum(values: Iterable[float | None]) -> float | None:
    values = list(values)
    return None if None in values else sum(values)


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
