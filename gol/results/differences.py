"""Which differences between rows are real: each row against one, over the same seeds and images."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gol.config.layout import DIFFERENCES, Layout
from gol.config.pipeline import LEAST_SEEDS
from gol.data.prepared import Prepared
from gol.errors import UserError, choices, plural
from gol.evaluation.lvis import MOST
from gol.evaluation.resampling import resampled_ap
from gol.files import write_json, write_text
from gol.groups import GROUP_METRICS
from gol.progress import progress
from gol.results import quoting
from gol.results.rows import Row, collect
from gol.results.runs import Run, read_runs, scored_on
from gol.results.significance import Estimate, estimate, holm
from gol.results.tables import aligned, csv_text, notes, signed, wrapped

METRICS = tuple(GROUP_METRICS)
RISK = 0.05
#: Experiment, scoring and seed → metric → (1 + R,), on all images, then on resampled ones.
_Measured = dict[tuple[str, str, int], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Difference:
    """A row beside the baseline, in one metric; numbers in percent points.

    Attributes:
        experiment: the row's.
        scoring: activation that turned logits into scores.
        label: how tables call it.
        classifier: decides its colour.
        metric: of METRICS.
        seeds: how many both have.
        mean: the row's own, with its interval.
        difference: row minus baseline, paired by seed; None for the baseline itself.
        p: of the difference, corrected for the number of rows; None for the baseline.
    """

    experiment: str
    scoring: str
    label: str
    classifier: str
    metric: str
    seeds: int
    mean: Estimate
    difference: Estimate | None = None
    p: float | None = None

    @property
    def real(self) -> bool:
        """Whether the difference is one."""
        return self.p is not None and self.p < RISK


def compare(
    run_folders: Iterable[str | Path],
    baseline: str,
    resamples: int = 1000,
    layout: Layout | None = None,
) -> dict[str, list[Difference]]:
    """Compares every row with the first one of the baseline.

    Args:
        run_folders: finished runs with their detections, in the order of the rows.
        baseline: an experiment of theirs.
        resamples: of the images.
        layout: whose rows to compare; by default all.

    Returns:
        Metric to the rows; without those in which it could not be measured. A calibrated row of
        too few seeds is left out and named.

    Raises:
        UserError: the baseline is none of the runs, a row has fewer than three seeds in common
            with it, detections are missing, or runs were scored on different images.
    """
    run_folders = list(run_folders)
    rows, runs = collect(run_folders), read_runs(run_folders)
    if layout:
        rows = [row for row in rows if row.experiment in layout.experiments]
    base = next((row for row in rows if row.experiment == baseline), None)
    if base is None:
        allowed = choices(dict.fromkeys(row.experiment for row in rows))
        raise UserError(f"baseline {baseline}: it is none of the runs; allowed: {allowed}")
    compared = [(row, seeds) for row in rows if (seeds := _shared_seeds(row, base))]
    measured = _measure(runs, resamples, {(row.trained_as, row.scoring) for row, _ in compared})
    found = {}
    for metric in METRICS:
        pairs = [
            (row, *(_values(measured, each, seeds, metric) for each in (row, base)))
            for row, seeds in compared
        ]
        found[metric] = _compared(metric, base, pairs)
    if not any(row.difference is None for row in found["AP"]):
        raise UserError(f"baseline {baseline}: no class could be measured")
    return found


def _shared_seeds(row: Row, base: Row) -> list[int]:
    """The seeds that a row has in common with the baseline, checked; none: it is left out."""
    seeds = sorted({*row.seeds} & {*base.seeds})
    if len(seeds) < LEAST_SEEDS:
        by_hand = "+" in row.scoring and row is not base  # perhaps of one seed alone
        who = row.label if by_hand else row.experiment
        what = "has" if row is base else f"and {base.experiment} share"
        few = plural(len(seeds), "seed")
        message = f"{who} {what} {few}: intervals need at least {LEAST_SEEDS}"
        if not by_hand:
            raise UserError(message)
        print(f"left out: {message}", file=sys.stderr)
        return []
    if row.setting != base.setting:
        raise UserError(f"{row.experiment} and {base.experiment} were not scored alike")
    return seeds


def _measure(runs: Sequence[Run], resamples: int, wanted: set[tuple[str, str]]) -> _Measured:
    """The metrics of each wanted training and scoring by seed; all on the same images."""
    store, _ = scored_on(runs[0])
    for run in runs:
        if scored_on(run)[0].resolve() != store.resolve():
            raise UserError(f"{run.folder} and {runs[0].folder} were scored on different data")
    jobs = [
        (run, scoring)
        for run in runs
        for scoring in run.evaluations
        if (run.identity.experiment, scoring) in wanted
    ]
    measured = {}
    for run, scoring in progress(jobs, "detections resampled", len(jobs)):
        most = run.evaluations[scoring].protocol.get("max_detections", MOST)
        files = Prepared(store.parent).annotations("val"), run.folder.detections(scoring)
        who = run.identity.experiment, scoring, run.identity.seed
        measured[who] = resampled_ap(*files, resamples, max_detections=most)
    return measured


def _values(measured: _Measured, row: Row, seeds: Sequence[int], metric: str) -> np.ndarray:
    """A row's values in percent points, (S, 1 + R)."""
    return 100 * np.stack([measured[row.trained_as, row.scoring, s][metric] for s in seeds])


def _compared(
    metric: str, base: Row, pairs: Sequence[tuple[Row, np.ndarray, np.ndarray]]
) -> list[Difference]:
    """The rows of a metric; each pair holds (S, 1 + R) of a row and of the baseline."""
    pairs = [(row, *_there(*values)) for row, *values in pairs]
    pairs = [pair for pair in pairs if pair[1].shape[1] > 2]  # a variance takes two resamples
    differences = [
        None if row is base else _estimate(values - others) for row, values, others in pairs
    ]
    corrected = iter(holm([each.p for each in differences if each]))
    return [
        Difference(
            row.experiment,
            row.scoring,
            row.label,
            row.classifier,
            metric,
            len(values),
            _estimate(values),
            difference,
            next(corrected) if difference else None,
        )
        for (row, values, _), difference in zip(pairs, differences, strict=True)
    ]


def _there(values: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without the resamples that show no object of a group; nothing where all images show none."""
    there = ~np.isnan(values + others).any(axis=0)
    return values[:, there & there[0]], others[:, there & there[0]]


def _estimate(values: np.ndarray) -> Estimate:
    return estimate(values[:, 0], values[:, 1:])


def write_comparison(
    run_folders: Iterable[str | Path],
    baseline: str,
    out: str | Path,
    resamples: int = 1000,
    layout: Layout | None = None,
) -> tuple[list[dict[str, Any]], str]:
    """Compares and writes ``differences.md``, ``.csv``, ``.json`` and a figure.

    Returns:
        The records of the JSON file, and the Markdown.

    Raises:
        UserError: as :func:`compare`, or ``out`` cannot be written.
    """
    from gol.results.difference_plot import plot_differences

    run_folders, out = list(run_folders), Path(out)
    found = compare(run_folders, baseline, resamples, layout)
    text, rows = markdown(found, notes(collect(run_folders))), records(found)
    plot_differences(found, out / "figures" / f"{DIFFERENCES}.png")
    write_json(out / f"{DIFFERENCES}.json", rows, indent=1, writer="gol compare")
    write_text(out / f"{DIFFERENCES}.csv", csv_text(rows))
    write_text(out / f"{DIFFERENCES}.md", text)
    return rows, text


def records(found: dict[str, list[Difference]]) -> list[dict[str, Any]]:
    """One dict per metric and row, in percent points; None where a baseline has no difference."""

    def record(row: Difference) -> dict[str, Any]:
        single = asdict(row)
        mean, difference = single.pop("mean"), single.pop("difference") or {}
        del single["classifier"], single["p"]
        numbers = {f"mean_{end}": mean[end] for end in ("low", "high")}
        ends = {f"difference_{end}": difference.get(end) for end in ("low", "high")}
        tests = {"p": difference.get("p"), "p_corrected": row.p, "real": row.real}
        mean, shift = {"mean": mean["mean"]}, {"difference": difference.get("mean")}
        return single | mean | numbers | shift | ends | tests

    return [record(row) for rows in found.values() for row in rows]


def markdown(found: dict[str, list[Difference]], remarks: Sequence[str] = ()) -> str:
    """A table for each metric."""
    base = next(row.label for rows in found.values() for row in rows if row.difference is None)
    counts = [row.seeds for rows in found.values() for row in rows]
    ends = dict.fromkeys((min(counts), max(counts)))
    head = (
        f"Mask AP × 100, mean over {' to '.join(map(str, ends))} seeds and difference from "
        f"{base}, paired by seed, with 95 % intervals over seeds and images. p: of no difference, "
        f"corrected by Holm for the rows of a table; below {RISK} the difference is real."
    )
    parts = [
        wrapped([quoting.markdown(head)]),
        wrapped(f"**{quoting.markdown(n)}**" for n in remarks),
    ]
    for metric, rows in ((metric, rows) for metric, rows in found.items() if rows):
        lines = [["Method", metric, "95 %", "difference", "95 %", "p", "real"]]
        parts += [f"## {metric}", aligned(lines + [_line(row) for row in rows])]
    return "\n\n".join(part for part in parts if part) + "\n"


def _line(row: Difference) -> list[str]:
    own = [row.label, f"{row.mean.mean:.1f}", f"{row.mean.low:.1f} … {row.mean.high:.1f}"]
    if row.difference is None:
        return [*own, "baseline", "", "", ""]
    ends = (signed(row.difference.low), signed(row.difference.high))
    p = "< 0.001" if row.p < 0.001 else f"{row.p:.3f}"
    return [*own, signed(row.difference.mean), " … ".join(ends), p, "yes" if row.real else "no"]
