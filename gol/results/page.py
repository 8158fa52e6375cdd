"""The report as one HTML page that opens offline: tables, figures and what single classes say."""

import base64
import io
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gol
from gol.config.layout import Layout
from gol.data.prepared import Prepared
from gol.errors import UserError, choices, shown, visible
from gol.evaluation.diagnosis import Diagnosis, diagnose
from gol.files import read_json, write_text
from gol.results import class_plots, page_tables, plots
from gol.results.report import select, whole
from gol.results.rows import Row, Tables, collect, mean_std
from gol.results.runs import Run, read_runs
from gol.results.tables import notes, remarks, table_lines

_LARGEST = 4_000_000  # bytes of an embedded picture


@dataclass(frozen=True)
class Picture:
    """A figure inside the page.

    Attributes:
        source: the image as a data URI.
        alt: what it shows, in words.
        caption: how to read it.
        width: in pixels.
        height: in pixels.
    """

    source: str
    alt: str
    caption: str
    width: int
    height: int


def write_page(
    run_folders: Iterable[str | Path],
    out: str | Path,
    layout: Layout | None = None,
    chosen: str | Path | None = None,
    examples: str | Path | None = None,
) -> None:
    """Writes the report of several runs as one HTML file without any reference to another.

    Args:
        run_folders: finished runs, in the order of the rows.
        out: the file.
        layout: which tables to show; by default one of all.
        chosen: the run whose detections are examined; by default the one of the highest AP.
        examples: picture of detections to show, where it exists.

    Raises:
        UserError: a run is incomplete, the layout names none of them, ``chosen`` is none of them,
            or the file cannot be written.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    runs = read_runs(run_folders)
    folders = [run.folder.path for run in runs]
    rows = collect(folders)
    tables, compared = select(rows, layout or whole(rows))
    tables = {**tables, **compared}
    run = _chosen(runs, chosen)
    diagnosis, missing = _diagnosis(run)
    content = {
        "title": _title(runs),
        "headline": headline(rows),
        "notes": notes(rows),
        "tables": [(title, table_lines(part), remarks(part)) for title, part in tables.items()],
        "figures": _figures(folders, runs, tables, diagnosis, examples),
        "chosen": f"{run.identity.label}, seed {run.identity.seed}",
        "missing": missing,
        "background": _background(diagnosis),
        "version": gol.__version__,
        "classes": page_tables.class_lines(tables, diagnosis),
        "confusions": page_tables.confusion_lines(diagnosis) if diagnosis else [],
        "costs": page_tables.cost_lines(runs),
        "versions": page_tables.version_lines(runs),
        "differences": page_tables.difference_lines(runs),
    }
    environment = Environment(
        loader=PackageLoader("gol.results", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    write_text(out, environment.get_template("page.html.j2").render(content))


def headline(rows: Sequence[Row]) -> str:
    """The result in a sentence or two: the best row, its lead, and how sure that is."""
    measured = [(mean_std(row.values["AP"])[0], row) for row in rows]
    ranked = sorted(
        ((mean, row) for mean, row in measured if mean is not None), key=lambda pair: -pair[0]
    )
    if not ranked:
        return "No class could be measured."
    mean, best = ranked[0]
    if mean == 0:
        return "AP is 0.0 everywhere: nothing was found yet."
    rare = mean_std(best.values["APr"])[0]
    text = f"{best.label} has the highest mask AP, {mean:.1f}"
    text += f" ({rare:.1f} on rare classes)" if rare is not None else ""
    others = [pair for pair in ranked[1:] if pair[1].experiment != best.experiment]
    if others:
        second, other = others[0]
        text += f", {mean - second:.1f} more than {other.label}"
    seeds = min(len(row.seeds) for row in rows)
    sure = "One seed does not tell how much of that is chance" if seeds == 1 else f"{seeds} seeds"
    return f"{text}. {sure}."


def _chosen(runs: Sequence[Run], chosen: str | Path | None) -> Run:
    if chosen is None:
        return max(runs, key=lambda run: run.evaluations[run.primary].segm["AP"] or -1.0)
    for run in runs:
        if run.folder.path.resolve() == Path(chosen).resolve():
            return run
    raise UserError(f"run {shown(str(chosen))}: allowed are {choices(str(r.folder) for r in runs)}")


def _diagnosis(run: Run) -> tuple[Diagnosis | None, str]:
    """The run's detections in detail, or why there is none."""
    data = read_json(run.folder.config).get("data", {})
    store = data.get("test", {}).get("ann_file")
    if store is None:
        return None, f"{run.folder.config} names no annotations"
    annotations = Prepared(Path(store).parent).annotations("val")
    detections = run.folder.detections(run.primary)
    for path in (annotations, detections):
        if not path.is_file():
            return None, f"{path} is missing"
    most = run.evaluations[run.primary].protocol.get("max_detections", 300)
    return diagnose(annotations, detections, most), ""


def _background(diagnosis: Diagnosis | None) -> str:
    if diagnosis is None:
        return ""
    return f"{int(diagnosis.confusion[-1].sum()):,} detections are where no object is annotated."


def _title(runs: Sequence[Run]) -> str:
    datasets = dict.fromkeys(Path(run.identity.axes.get("dataset", "")).stem for run in runs)
    return f"Results on {', '.join(datasets)}"


def _figures(
    folders: Sequence[Path],
    runs: Sequence[Run],
    tables: Tables,
    diagnosis: Diagnosis | None,
    examples: str | Path | None,
) -> dict[str, Picture]:
    """Name in the template → picture, of those that there are."""
    some = next(iter(tables.values()))[0]
    drawn: dict[str, tuple[Callable[[Path], Any], str, str]] = {
        "groups": (
            lambda path: plots.plot_groups(tables, path),
            "Bars: mask AP over all, rare, common and frequent classes, one bar per method",
            "Mean over seeds; whiskers are one sample standard deviation, dots the seeds.",
        ),
        "per_class": (
            lambda path: class_plots.plot_per_class(tables, path),
            "Scatter: mask AP of each class against its number of training images",
            "A dot is a class, a line the mean of classes of similar frequency.",
        ),
        "loss": (
            lambda path: plots.plot_curves(folders, tables, path),
            "Lines: training loss against the iteration, one line per method",
            "Running mean over 5 % of the points; a band spans the seeds.",
        ),
        "validation": (
            lambda path: plots.plot_validation(runs, tables, path),
            "Lines: AP of the validations during training, one line per method",
            "",
        ),
        "distribution": (
            lambda path: class_plots.plot_distribution(some.per_class, path),
            "Bars: training images of each class, from the most frequent to the rarest",
            "One bar per class; the vertical axis is logarithmic.",
        ),
    }
    if diagnosis:
        drawn["precision_recall"] = (
            lambda path: class_plots.plot_precision_recall(diagnosis, path),
            "Curves: precision against recall for all, rare, common and frequent classes",
            "Mean over the classes of a group. The area below a curve on the left is its AP.",
        )
        drawn["confusion"] = (
            lambda path: class_plots.plot_confusion(diagnosis, path),
            "Matrix: the class of the objects against the class that they were found as",
            "Share of each row's objects, at IoU 0.5 and each class's best threshold.",
        )
    with tempfile.TemporaryDirectory() as folder:
        pictures = {}
        for name, (draw, alt, caption) in drawn.items():
            path = Path(folder) / f"{name}.png"
            draw(path)
            if path.exists():
                pictures[name] = _embed(path, alt, caption)
    if examples and Path(examples).is_file():
        alt = "Validation images side by side: the ground truth and what each method finds"
        pictures["examples"] = _embed(Path(examples), alt, "")
    return pictures


def _embed(path: Path, alt: str, caption: str) -> Picture:
    """A picture as a data URI; a very large one becomes a JPEG of at most 2400 pixels."""
    from PIL import Image

    content, kind = path.read_bytes(), "png"
    with Image.open(path) as image:
        if len(content) > _LARGEST:
            image = image.convert("RGB")
            image.thumbnail((2400, 2400))
            buffer, kind = io.BytesIO(), "jpeg"
            image.save(buffer, "JPEG", quality=85)
            content = buffer.getvalue()
        width, height = image.size
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Picture(uri, alt, caption, width, height)
