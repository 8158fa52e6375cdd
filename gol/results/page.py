"""The report as one HTML page that opens offline: tables, figures and what single classes say."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import gol
from gol.config.layout import Layout
from gol.data.prepared import Prepared
from gol.errors import UserError, choices, plural, shown
from gol.evaluation.diagnosis import Diagnosis, diagnose
from gol.evaluation.lvis import MOST
from gol.files import write_text
from gol.results import page_figures, page_tables
from gol.results.bill import Bill
from gol.results.difference_file import read_differences
from gol.results.quoting import html
from gol.results.report import select, whole
from gol.results.rows import Row, collect, mean_std, mean_text
from gol.results.runs import Run, read_runs, scored_on
from gol.results.tables import notes, other_protocols, remarks, table_lines


def write_page(
    run_folders: Iterable[str | Path],
    out: str | Path,
    layout: Layout | None = None,
    chosen: str | Path | None = None,
    differences: str | Path | None = None,
) -> None:
    """Writes the report of several runs as one HTML file without any reference to another.

    Args:
        run_folders: finished runs, in the order of the rows.
        out: the file.
        layout: which tables to show; by default one of all.
        chosen: the run whose detections are examined; by default the one of the highest AP.
        differences: ``differences.json`` as :func:`gol.results.differences.write_comparison` has
            written it beside its figure, to show both.

    Raises:
        UserError: a run is incomplete, the layout names none of them, ``chosen`` is none of them,
            the file cannot be written, or ``differences`` is no such file,
            or of other rows.
    """
    runs = read_runs(run_folders)
    wanted = (layout.protocols, layout.experiments) if layout else ()
    rows = collect((run.folder.path for run in runs), *wanted)
    layout = layout or whole(rows)
    names = {row.experiment for row in rows}
    shifts = read_differences(differences, names) if differences else []
    tables, compared = select(rows, layout)
    tables = {**tables, **compared}
    run = _chosen(runs, chosen)
    diagnosis, missing = _diagnosis(run)
    beside = _beside(run, rows)
    drawings = page_figures.result_drawings(runs, tables, beside[0].per_class)
    drawings |= page_figures.comparison_drawings(layout, rows)
    drawings |= page_figures.diagnosis_drawings(diagnosis) if diagnosis else {}
    drawings |= page_figures.difference_drawing(differences) if differences else {}
    content = {
        "title": _title(runs),
        "headline": headline(rows),
        "notes": notes(rows),
        "beside": other_protocols(rows),
        "tables": [(title, table_lines(part), remarks(part)) for title, part in tables.items()],
        "figures": page_figures.draw(drawings),
        "chosen": f"{run.identity.label}, seed {run.identity.seed}",
        "missing": missing,
        "background": _background(diagnosis),
        "version": gol.__version__,
        "classes": page_tables.class_lines(beside, diagnosis),
        "confusions": page_tables.confusion_lines(diagnosis) if diagnosis else [],
        "costs": page_tables.cost_lines(runs),
        "cost_words": Bill(cost for run in runs for cost in run.costs).words,
        "versions": page_tables.version_lines(runs),
        "differences": page_tables.difference_lines(shifts),
        "settings": page_tables.setting_lines(runs),
    }
    write_text(out, html("page.html.j2", content))


def headline(rows: Sequence[Row]) -> str:
    """The result in a sentence or two: the best row, its lead, and how sure that is.

    Rows that were scored on different data are not compared: each data has its own sentences.
    """
    settings = list(dict.fromkeys(row.setting for row in rows))
    if len(settings) == 1:
        return _best(rows)
    parts = ([row for row in rows if row.setting == setting] for setting in settings)
    return " ".join(f"On {part[0].setting.partition(',')[0]}: {_best(part)}" for part in parts)


def _best(rows: Sequence[Row]) -> str:
    measured = [(*mean_std(row.values["AP"]), row) for row in rows]
    ranked = sorted((each for each in measured if each[0] is not None), key=lambda each: -each[0])
    if not ranked:
        return "No class could be measured."
    mean, deviation, best = ranked[0]
    if mean == 0:
        return "AP is 0.0 everywhere: nothing was found yet."
    rare = mean_text(best.values["APr"]).strip()
    others = [each for each in ranked[1:] if each[2].experiment != best.experiment]
    what = "has the highest mask AP," if others else "has mask AP"
    text = f"{best.label} {what} {mean_text(best.values['AP']).strip()}"
    text += f" ({rare} on rare classes)" if mean_std(best.values["APr"])[0] is not None else ""
    if others:
        text += f", {mean - others[0][0]:.1f} more than {others[0][2].label}"
    if deviation is not None:
        return f"{text}: mean ± standard deviation over {len(best.seeds)} seeds."
    return f"{text}. One seed does not tell how much of that is chance."


def _beside(run: Run, rows: Sequence[Row]) -> list[Row]:
    """The rows that were scored as the examined run was, whose classes are therefore the same."""
    name = run.identity.experiment
    setting = next(row.setting for row in rows if row.trained_as == name)
    return [row for row in rows if row.setting == setting]


def _chosen(runs: Sequence[Run], chosen: str | Path | None) -> Run:
    if chosen is None:
        return max(runs, key=lambda run: run.evaluations[run.primary].segm["AP"] or -1.0)
    for run in runs:
        if run.folder.path.resolve() == Path(chosen).resolve():
            return run
    raise UserError(f"run {shown(str(chosen))}: allowed are {choices(str(r.folder) for r in runs)}")


def _diagnosis(run: Run) -> tuple[Diagnosis | None, str]:
    """The run's detections in detail, or why there is none."""
    try:
        store, _ = scored_on(run)
    except UserError as error:
        return None, str(error)
    annotations = Prepared(store.parent).annotations("val")
    detections = run.folder.detections(run.primary)
    for path in (annotations, detections):
        if not path.is_file():
            return None, f"{path} is missing"
    most = run.evaluations[run.primary].protocol.get("max_detections", MOST)
    return diagnose(annotations, detections, most), ""


def _background(diagnosis: Diagnosis | None) -> str:
    if diagnosis is None:
        return ""
    lone = int(diagnosis.confusion[-1].sum())
    return f"{plural(lone, 'detection')} where no object is annotated."


def _title(runs: Sequence[Run]) -> str:
    datasets = dict.fromkeys(Path(run.identity.axes.get("dataset", "")).stem for run in runs)
    return f"Results on {', '.join(datasets)}"
