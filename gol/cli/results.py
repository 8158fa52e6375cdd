"""Verbs that turn detections into scores, and finished runs into tables and MLflow runs."""

from pathlib import Path
from typing import Any

from gol.cli.verbs import JSON, OUT, STORE, Result, option, verb, whole
from gol.errors import UserError


def _protocols(**_: Any) -> list[str]:
    from gol.config.protocols import PROTOCOLS

    return [*PROTOCOLS]


@verb(
    option("annotations", type=Path, help="prepared annotation file; alone, a run folder"),
    option("detections", type=Path, nargs="?", help="JSON written by `gol detect`"),
    option("--out", type=Path, help="where to write (default: a run's own evaluation folder)"),
    option(
        "--protocol",
        dest="protocols",
        action="append",
        default=[],
        metavar="NAME",
        complete=_protocols,
        help="instead of the official one: fixed, pool, boundary, tide, olrp or calibration; may"
        " be given several times",
    ),
    option("--scoring", help="which detections of a run (default: the config's first)"),
    option(
        "--per-class",
        type=whole(1),
        metavar="N",
        help="detections that a class may have, by the protocols fixed and pool (default 10000)",
    ),
    JSON,
)
def evaluate(
    annotations: Path,
    detections: Path | None,
    out: Path | None,
    protocols: list[str],
    scoring: str | None,
    per_class: int | None,
) -> Result:
    """Score detections against annotations by the LVIS protocol, or by others beside it."""
    if detections is None and out:
        raise UserError("a run's scores are written into its folder: --out is for two files")
    if detections and scoring:
        raise UserError("--scoring is for a run: the detections are named already")
    if protocols:
        return _by_protocols(annotations, detections, out, protocols, scoring, per_class)
    if per_class:
        raise UserError("--per-class is for --protocol fixed and pool")
    from gol.evaluation.advice import advice
    from gol.evaluation.lvis import evaluate_file, format_metrics

    if detections is None:
        from gol.evaluation.protocols import files_of_run

        annotations, detections, out = files_of_run(annotations, scoring)
    if out is None:
        raise UserError("--out is missing: where to write the scores")
    scores = evaluate_file(annotations, detections, out)
    return Result(
        scores, "\n".join([format_metrics(scores), *advice(scores, annotations, detections)])
    )


def _by_protocols(
    annotations: Path,
    detections: Path | None,
    out: Path | None,
    names: list[str],
    scoring: str | None,
    per_class: int | None,
) -> Result:
    from gol.config.protocols import PER_CLASS
    from gol.evaluation.protocols import evaluate_by, evaluate_run, format_scores, write_scores

    most = per_class or PER_CLASS
    if detections is None:
        results = evaluate_run(annotations, names, scoring, most)
    else:
        if out and len(set(names)) > 1:
            raise UserError("--out holds the scores of one --protocol")
        results = evaluate_by(names, annotations, detections, most)
        if out:
            write_scores(results[names[0]], out)
    return Result(results, "\n\n".join(map(format_scores, results.values())))


@verb(STORE, extra="all")
def store(store: str) -> None:
    """Create the MLflow store."""
    from gol.results.tracking import create_tracking_store

    create_tracking_store(store)


@verb(
    option("runs", type=Path, nargs="+", metavar="run", help="run folders"),
    STORE,
    option("--name", required=True, help="MLflow experiment"),
    option("--results", type=Path, help="folder whose table and figures go with the runs"),
    option("--follow", action="store_true", help="log metrics while the runs train"),
    JSON,
    extra="all",
)
def track(
    runs: list[Path], store: str, name: str, results: Path | None, follow: bool
) -> Result | None:
    """Log finished runs to MLflow; a second time changes nothing."""
    from gol.results.tracking import log_run, page_of

    if follow:
        from gol.results.tracking_live import follow_runs

        follow_runs(runs, store, name)
        return None
    if results:
        from gol.results.tracking_pipeline import log_pipeline

        identities = [log_pipeline(runs, store, name, results)]
    else:
        identities = [log_run(run, store, name) for run in runs]
    page = page_of(store, name)
    value = {"run_id": identities[0], "run_ids": identities, "page": page}
    return Result(value, page if results else "\n".join(identities))


_RUNS = option(
    "runs",
    type=Path,
    nargs="+",
    help="run folders, in the order of the rows, or folders that hold such",
)
_LAYOUT = option("--layout", help="pipeline file, or its keys tables and figures as JSON")


@verb(
    _RUNS,
    _LAYOUT,
    OUT,
    JSON,
)
def table(runs: list[Path], layout: str | None, out: Path) -> Result:
    """Write tables and figures of several runs."""
    from gol.config.pipeline import read_layout
    from gol.results.report import report
    from gol.results.runs import find_runs
    from gol.results.tables import markdown, records

    tables = report(find_runs(runs), out, read_layout(layout) if layout else None)
    return Result(records(tables), markdown(tables))


@verb(
    _RUNS,
    option("--baseline", required=True, help="experiment that the others are compared with"),
    option("--resamples", type=whole(2), default=1000, help="of the images (default: 1000)"),
    OUT,
    JSON,
)
def compare(runs: list[Path], baseline: str, resamples: int, out: Path) -> Result:
    """Say which differences between rows of 3 and more seeds are real."""
    from gol.results.differences import write_comparison
    from gol.results.runs import find_runs

    return Result(*write_comparison(find_runs(runs), baseline, out, resamples))


@verb(
    _RUNS,
    _LAYOUT,
    option("--run", type=Path, help="run to examine in detail (default: the one of the best AP)"),
    OUT,
    extra="all",
)
def report(runs: list[Path], layout: str | None, run: Path | None, out: Path) -> None:
    """Write one HTML page of several runs, which opens offline."""
    from gol.config.pipeline import read_layout
    from gol.results.page import write_page
    from gol.results.runs import find_runs

    write_page(find_runs(runs), out, read_layout(layout) if layout else None, run)
