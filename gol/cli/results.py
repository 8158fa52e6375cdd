"""Verbs that turn detections into scores, and finished runs into tables and MLflow runs."""

from pathlib import Path

from gol.cli.verbs import JSON, OUT, RUN, STORE, Result, option, verb


@verb(
    option("annotations", type=Path, help="prepared annotation file"),
    option("detections", type=Path, help="JSON written by `gol detect`"),
    OUT,
    JSON,
)
def evaluate(annotations: Path, detections: Path, out: Path) -> Result:
    """Score detections against annotations by the LVIS protocol."""
    from gol.evaluation.advice import advice
    from gol.evaluation.lvis import evaluate_file, format_metrics

    scores = evaluate_file(annotations, detections, out)
    return Result(
        scores, "\n".join([format_metrics(scores), *advice(scores, annotations, detections)])
    )


@verb(STORE, extra="all")
def store(store: str) -> None:
    """Create the MLflow store."""
    from gol.results.tracking import create_tracking_store

    create_tracking_store(store)


@verb(RUN, STORE, option("--name", required=True, help="MLflow experiment"), JSON, extra="all")
def track(run: Path, store: str, name: str) -> Result:
    """Log a finished run to MLflow; a second time changes nothing."""
    from gol.results.tracking import log_run

    identity = log_run(run, store, name)
    return Result({"run_id": identity}, identity)


@verb(
    option("runs", type=Path, nargs="+", help="run folders, in the order of the rows"),
    option("--layout", help="pipeline file, or its keys tables and figures as JSON"),
    OUT,
    JSON,
)
def table(runs: list[Path], layout: str | None, out: Path) -> Result:
    """Write tables and figures of several runs."""
    from gol.config.pipeline import read_layout
    from gol.results.report import report
    from gol.results.tables import markdown, records

    tables = report(runs, out, read_layout(layout) if layout else None)
    return Result(records(tables), markdown(tables))
