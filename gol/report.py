"""The report of several runs: table and figures."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from gol.figures import loss_gradients
from gol.files import write_text
from gol.plots import plot_curves, plot_groups, plot_per_class
from gol.rows import Row, collect
from gol.tables import csv_text, latex, markdown


def report(run_folders: Iterable[str | Path], out_folder: str | Path) -> str:
    """Writes the table and ``figures/`` of several runs and returns the table as Markdown.

    Args:
        run_folders: finished runs, in the order of the rows.
        out_folder: created when missing.

    Raises:
        UserError: a run is incomplete or the folder cannot be written.
    """
    run_folders, figures = list(run_folders), Path(out_folder) / "figures"
    rows = collect(run_folders)
    loss_gradients(figures / "loss_gradients.png")
    plot_groups(rows, figures / "ap_by_group.png")
    plot_per_class(rows, figures / "ap_per_class.png")
    plot_curves(run_folders, figures / "training_loss.png")
    return write_table(rows, out_folder)


def write_table(rows: Sequence[Row], out_folder: str | Path) -> str:
    """Writes ``table.md``, ``table.csv`` and ``table.tex`` and returns the Markdown.

    Args:
        rows: result of ``collect``.
        out_folder: created when missing.

    Raises:
        UserError: the folder cannot be written.
    """
    folder = Path(out_folder)
    text = markdown(rows)
    write_text(folder / "table.csv", csv_text(rows))
    write_text(folder / "table.tex", latex(rows))
    write_text(folder / "table.md", text)
    return text
