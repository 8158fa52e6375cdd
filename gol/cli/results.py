"""Verbs that turn detections into scores, and finished runs into tables and MLflow runs."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol.cli.verbs import JSON, OUT, RUN, STORE, Result, option, verb, whole
from gol.errors import UserError, pick

if TYPE_CHECKING:
    from gol.engine.calibrate import Calibrated


_PER_CLASS_ALONE = "--per-class is for --protocol fixed and pool"


def _protocols(**_: Any) -> list[str]:
    from gol.config.protocols import PROTOCOLS

    return [*PROTOCOLS]


def _calibrations(**_: Any) -> list[str]:
    from gol.config.axes import axis_values

    return list(axis_values("calibration"))


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
        raise UserError(_PER_CLASS_ALONE)
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
    from gol.config.protocols import PER_CLASS, PROTOCOLS
    from gol.evaluation.protocols import evaluate_by, evaluate_run, format_scores, write_scores

    if per_class and not any(pick("protocol", name, PROTOCOLS).per_class for name in names):
        raise UserError(_PER_CLASS_ALONE)
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


_STRENGTHS = {"gamma": "norcal", "tau": "logit_adjust", "lambda": "fracal"}


@verb(
    RUN,
    option("method", complete=_calibrations, help="none, norcal, logit_adjust, fracal or logn"),
    option("--fit", action="store_true", help="find the strength on half of the training images"),
    *(
        option(f"--{name}", type=float, metavar="VALUE", help=f"strength of {method}")
        for name, method in _STRENGTHS.items()
    ),
    option("--scoring", help="activation for the scores (default: the config's first)"),
    option("--device", help="cpu, cuda, cuda:1 … (default: the GPU if there is one)"),
    JSON,
)
def calibrate(
    run: Path, method: str, fit: bool, scoring: str | None, device: str | None, **strengths: Any
) -> Result:
    """Score a run's kept logits again, without training or detecting."""
    from gol.engine.calibrate import calibrate

    given = [(name, value) for name, value in strengths.items() if value is not None]
    if len(given) > 1:
        raise UserError(f"--{given[0][0]} and --{given[1][0]} both give the strength: give one")
    found = calibrate(run, method, scoring, given[0] if given else None, fit, device)
    if found.curve:
        from gol.results.calibration_plot import plot_fit
        from gol.run_folder import RunFolder

        record = RunFolder(run).calibration(found.scoring)
        plot_fit(found.scoring, found.curve, found.strength, record)
    return Result(*_calibrated(found))


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
    option("--differences", type=Path, help="differences.json of `gol compare`, with --results"),
    option("--follow", action="store_true", help="log metrics while the runs train"),
    JSON,
    extra="all",
)
def track(
    runs: list[Path],
    store: str,
    name: str,
    results: Path | None,
    differences: Path | None,
    follow: bool,
) -> Result | None:
    """Log finished runs to MLflow; a second time changes nothing."""
    from gol.results.tracking import log_run, page_of

    if differences and not results:
        raise UserError("--differences needs --results, the folder of the table")
    if follow:
        from gol.results.tracking_live import follow_runs

        follow_runs(runs, store, name)
        return None
    if results:
        from gol.results.tracking_pipeline import log_pipeline

        identities = [log_pipeline(runs, store, name, results, differences)]
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
_LAYOUT = option(
    "--layout", help="pipeline file, or its keys experiments, tables, figures, protocols as JSON"
)


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
    _LAYOUT,
    option("--resamples", type=whole(2), default=1000, help="of the images (default: 1000)"),
    OUT,
    JSON,
)
def compare(
    runs: list[Path], baseline: str, layout: str | None, resamples: int, out: Path
) -> Result:
    """Say which differences between rows of 3 and more seeds are real."""
    from gol.config.pipeline import read_layout
    from gol.results.differences import write_comparison
    from gol.results.runs import find_runs

    shown = read_layout(layout) if layout else None
    return Result(*write_comparison(find_runs(runs), baseline, out, resamples, shown))


@verb(
    _RUNS,
    _LAYOUT,
    option("--run", type=Path, help="run to examine in detail (default: the one of the best AP)"),
    option("--differences", type=Path, help="differences.json of `gol compare`, to show it too"),
    OUT,
    extra="all",
)
def report(
    runs: list[Path], layout: str | None, run: Path | None, differences: Path | None, out: Path
) -> None:
    """Write one HTML page of several runs, which opens offline."""
    from gol.config.pipeline import read_layout
    from gol.results.page import write_page
    from gol.results.runs import find_runs

    shown = read_layout(layout) if layout else None
    write_page(find_runs(runs), out, shown, run, differences)


def _calibrated(found: "Calibrated") -> tuple[dict[str, Any], str]:
    """What a calibration has brought, as a value and as a table of before and after."""
    from gol.calibration import calibration
    from gol.results.rows import SOURCE

    activation, _, method = found.scoring.partition("+")
    chosen = calibration(method)
    name = f"{activation} + {chosen.title}"
    if chosen.parameter:
        name += f", {chosen.parameter} {found.strength:.3g}"
    values = {
        title: {metric: (scores.get(kind) or {}).get(key) for metric, (kind, key) in SOURCE.items()}
        for title, scores in ((activation, found.before), (name, found.after))
    }
    width = max(map(len, values))
    lines = [" " * width + "".join(f"{metric:>7}" for metric in SOURCE)]
    for title, row in values.items():
        cells = ("-" if value is None else f"{100 * value:.1f}" for value in row.values())
        lines.append(f"{title:{width}}" + "".join(f"{cell:>7}" for cell in cells))
    lines.append(f"detections in {found.detections}")
    if found.curve:
        curve = found.detections.parent.parent / "calibration" / f"{found.scoring}.png"
        lines.append(f"{chosen.parameter} fitted on training images; the curve is {curve}")
    if found.replaced is not None and found.replaced != found.strength:
        lines.append(f"in place of those of {chosen.parameter} {found.replaced:.3g}")
    if found.missing:
        count = found.after["detections"]
        text = f"about {found.missing:,} of {count:,} detections are missing, since their masks "
        text += "were not kept"
        if found.strength == chosen.default:
            text += f"; `gol detect RUN --scoring {found.scoring}` finds all"
        lines.append(text)
    value = {
        "scoring": found.scoring,
        "strength": found.strength,
        "before": values[activation],
        "after": values[name],
        "curve": [asdict(point) for point in found.curve],
        "detections": str(found.detections),
        "missing": found.missing,
    }
    return value, "\n".join(lines)
