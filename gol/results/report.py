"""The report of several runs: tables and figures."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from gol.config.layout import Figure, Layout, file_name
from gol.errors import UserError
from gol.files import write_text
from gol.results.class_plots import plot_per_class
from gol.results.comparison import plot_comparison
from gol.results.drawing import plot_note
from gol.results.example_plot import plot_examples
from gol.results.figures import loss_gradients
from gol.results.plots import plot_curves, plot_groups
from gol.results.rows import Row, Tables, collect
from gol.results.runs import read_runs
from gol.results.tables import csv_text, latex, markdown, records


def report(
    run_folders: Iterable[str | Path], out_folder: str | Path, layout: Layout | None = None
) -> Tables:
    """Writes tables and ``figures/`` of several runs.

    Args:
        run_folders: finished runs, in the order of the rows.
        out_folder: created when missing.
        layout: what to show; by default one table of all. Experiments without a run are left out,
            and so is a table without any; figures show their published values.

    Returns:
        What the tables show.

    Raises:
        UserError: a run is incomplete, the layout names none of them, or the folder cannot be
            written.
    """
    run_folders, figures = list(run_folders), Path(out_folder) / "figures"
    wanted = (layout.protocols, layout.experiments) if layout else ()
    rows = collect(run_folders, *wanted)
    layout = layout or whole(rows)
    tables, compared = select(rows, layout)
    plot_curves(run_folders, tables, figures / Figure.CURVES.file)  # reads logs: may be refused
    loss_gradients(figures / Figure.GRADIENTS.file)
    plot_groups(tables, figures / Figure.GROUPS.file)
    plot_per_class(tables, figures / Figure.CLASSES.file)
    for title, groups in layout.figures.items():
        plot_comparison(title, groups, rows, figures / f"{file_name(title)}.png")
    shown = {**tables, **compared}
    examples = figures / Figure.EXAMPLES.file
    if reason := plot_examples(read_runs(run_folders), shown, examples):
        plot_note(reason, examples)  # the workflow expects a file, and an older one would mislead
    write_tables(shown, out_folder)
    return shown


def whole(rows: Iterable[Row]) -> Layout:
    """The layout of one table that shows all rows."""
    return Layout({"": list(dict.fromkeys(row.experiment for row in rows))})


def select(rows: Sequence[Row], layout: Layout) -> tuple[Tables, Tables]:
    """The rows of the layout's tables, and those of its figures, as far as there are any.

    Raises:
        UserError: the layout names none of the rows.
    """

    def chosen(parts: Mapping[str, Iterable[str]]) -> Tables:
        found = {
            title: [row for name in names for row in rows if row.experiment == name]
            for title, names in parts.items()
        }
        return {title: part for title, part in found.items() if part}

    tables = chosen(layout.tables)
    compared = chosen(
        {
            title: [name for group in groups.values() for name in group.values()]
            for title, groups in layout.figures.items()
        }
    )
    if not (tables or compared):
        names = dict.fromkeys(row.experiment for row in rows)
        raise UserError(f"the layout names none of the runs; they hold {', '.join(names)}")
    return tables, compared


def write_tables(tables: Tables, out_folder: str | Path) -> None:
    """Writes ``table.md``, ``table.csv`` and ``table.tex``.

    Args:
        tables: title to rows of ``collect``.
        out_folder: created when missing.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = Path(out_folder)
    write_text(folder / "table.csv", csv_text(records(tables)))
    write_text(folder / "table.tex", latex(tables))
    write_text(folder / "table.md", markdown(tables))
