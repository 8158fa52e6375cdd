"""Figures of finished runs: training curves, AP by frequency group, AP of each class.

matplotlib is imported inside and used without pyplot, so there is no display, no global state and
nothing to close.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gol.files import atomic_path
from gol.groups import GROUPS
from gol.results import quoting
from gol.results.rows import Row, Tables, mean_std
from gol.results.runs import read_curve, read_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart under the common colour-vision deficiencies.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_GROUPS = {"AP": "all", **{f"AP{group}": name for group, name in GROUPS.items()}}


def plot_groups(tables: Tables, path: str | Path) -> None:
    """Draws mask AP over all, rare, common and frequent classes, one bar a row.

    Bars are means over seeds, whiskers one sample standard deviation, dots the single seeds.

    Args:
        tables: title to rows of ``gol.results.rows.collect``; each has a panel, a long one several.
        path: figure to write; the suffix gives the format.
    """
    with _panels(tables, path, width=8.0) as panels:
        for axes, rows in panels:
            width = 0.8 / max(len(rows), 1)
            for index, (row, style) in enumerate(zip(rows, _styles(rows), strict=True)):
                look = {"color": style["color"], "hatch": style["hatch"], "edgecolor": "white"}
                for group, metric in enumerate(_GROUPS):
                    x = group + (index - (len(rows) - 1) / 2) * width
                    label = quoting.figure(row.label) if group == 0 else None
                    draw_bar(axes, x, row.values[metric], width=0.9 * width, label=label, **look)
            ticks = [f"{name}\n({text})" for name, text in _GROUPS.items()]
            axes.set_xticks(range(len(_GROUPS)), ticks)
            axes.set_ylabel("mask AP × 100")
            axes.set_ylim(bottom=0)
            axes.tick_params(axis="x", length=0)


def draw_bar(axes: "Axes", x: float, values: Sequence[float | None], **look: Any) -> None:
    """One bar: the mean of the values that are there, their deviation and, as dots, themselves."""
    mean, std = mean_std(values)
    if mean is None:
        return
    axes.bar(x, mean, **look)
    if std is not None:
        axes.errorbar(x, mean, std, color="#333333", capsize=3, linewidth=1)
        there = [value for value in values if value is not None]
        axes.plot([x] * len(there), there, ".", color="#333333", markersize=3, alpha=0.6)


def plot_curves(run_folders: Iterable[str | Path], tables: Tables, path: str | Path) -> None:
    """Draws the training loss against the iteration, one line an experiment.

    Each seed's loss is a running mean over 5 % of the points; the line is the mean over seeds and
    the band reaches from the lowest to the highest seed.

    Args:
        run_folders: folders of finished runs.
        tables: title to rows, as for ``plot_groups``.
        path: figure to write; the suffix gives the format.

    Raises:
        UserError: a folder is incomplete.
    """
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    shown = {row.experiment for rows in tables.values() for row in rows}
    for run in read_runs(run_folders):
        experiment = run.identity.experiment
        if experiment in shown:
            points = [point for point in read_curve(run.folder.path) if "loss" in point]
            iterations = np.array([point["iteration"] for point in points])
            losses = np.array([point["loss"] for point in points])
            curves.setdefault(experiment, []).append((iterations, _running_mean(losses)))
    with _panels(tables, path, width=7.0) as panels:
        for axes, rows in panels:
            for row, style in zip(rows, _styles(rows), strict=True):
                if row.primary:
                    _draw_curve(axes, curves[row.experiment], row.training, style["color"])
            axes.set_xlabel("iteration")
            axes.set_ylabel("training loss (running mean)")
            axes.margins(x=0.01)


def _draw_curve(axes: "Axes", seeds: list, label: str, colour: str) -> None:
    grid = min((iterations for iterations, _ in seeds), key=len)
    if len(grid) == 0:
        return
    losses = np.stack([np.interp(grid, iterations, loss) for iterations, loss in seeds])
    suffix = f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
    label = quoting.figure(label) + suffix
    axes.plot(grid, losses.mean(0), linewidth=1.6, label=label, color=colour)
    if len(seeds) > 1:
        axes.fill_between(grid, losses.min(0), losses.max(0), color=colour, alpha=0.2, linewidth=0)


def plot_per_class(tables: Tables, path: str | Path) -> None:
    """Draws each class's mask AP against its number of training images.

    Dots are classes (mean over seeds), the line joins the means of the classes in bins of equal
    width on the logarithmic axis.

    Args:
        tables: title to rows, as for ``plot_groups``.
        path: figure to write; the suffix gives the format.
    """
    with _panels(tables, path, width=7.0) as panels:
        for axes, rows in panels:
            for row, style in zip(rows, _styles(rows), strict=True):
                if not row.per_class:
                    continue
                counts, aps = np.array(row.per_class, dtype=float).T
                axes.plot(counts, 100 * aps, ".", color=style["color"], markersize=4, alpha=0.35)
                centres, means = _binned(counts, 100 * aps)
                line = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.8}
                label = quoting.figure(row.label)
                axes.plot(centres, means, marker="o", markersize=5, label=label, **line)
            # Linear below 1, so that a class without any training image has a place at 0.
            axes.set_xscale("symlog", linthresh=1)
            axes.xaxis.set_major_formatter("{x:g}")
            axes.set_xlabel("training images with the class")
            axes.set_ylabel("mask AP × 100")
            axes.set_ylim(bottom=-2)


@contextmanager
def _panels(
    tables: Tables, path: str | Path, width: float
) -> Iterator[list[tuple["Axes", Sequence[Row]]]]:
    """Yields axes with the rows to draw, one below the other; then writes the figure."""
    parts = [(title, part) for title, rows in tables.items() for part in _parts(rows)] or [("", [])]
    figure = new_figure(width, 4.2 * len(parts))
    grid = figure.subplots(len(parts), squeeze=False)[:, 0]
    for axes in grid:
        tidy(axes)
    yield [(axes, rows) for axes, (_, rows) in zip(grid, parts, strict=True)]
    for axes, (title, _) in zip(grid, parts, strict=True):
        add_legend(axes, title)
    save(figure, path)


def _parts(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in parts of so few experiments that each has a colour of its own."""
    names = list(dict.fromkeys(row.experiment for row in rows))
    parts = [names[i : i + len(COLOURS)] for i in range(0, len(names), len(COLOURS))]
    return [[row for row in rows if row.experiment in part] for part in parts]


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def tidy(axes: "Axes") -> None:
    """Takes away the frame and draws pale lines behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)


def add_legend(axes: "Axes", title: str = "") -> None:
    """Puts title and legend above the axes, where they hide no data."""
    if axes.get_legend_handles_labels()[0]:
        legend = axes.legend(
            loc="lower left",
            bbox_to_anchor=(0, 1.01),
            borderaxespad=0,
            ncols=2,
            frameon=False,
            fontsize=9,
            handlelength=3,
            title=quoting.figure(title),
            alignment="left",
        )
        legend.get_title().set_fontweight("bold")


def save(figure: "Figure", path: str | Path) -> None:
    """Writes a figure atomically; the suffix gives the format."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.removeprefix("."))


def _styles(rows: Sequence[Row]) -> list[dict[str, str | None]]:
    """One colour an experiment; hatched and dashed where it is scored another way."""
    experiments = list(dict.fromkeys(row.experiment for row in rows))
    return [
        {
            "color": COLOURS[experiments.index(row.experiment)],
            "linestyle": "-" if row.primary else "--",
            "hatch": None if row.primary else "///",
        }
        for row in rows
    ]


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Centred running mean, shape kept; at the ends over the part of the window that is there."""
    window = np.ones(2 * (len(values) // 40) + 1)
    if len(values) == 0:
        return values
    weight = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / weight


def _binned(counts: np.ndarray, values: np.ndarray, bins: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Mean position and mean value of the points in each occupied bin of log(1 + count)."""
    position = np.log1p(counts)
    edges = np.linspace(position.min(), position.max(), bins + 1)
    member = np.clip(np.searchsorted(edges, position, side="right") - 1, 0, bins - 1)
    occupied = np.unique(member)
    centres = [np.expm1(position[member == index].mean()) for index in occupied]
    return np.array(centres), np.array([values[member == index].mean() for index in occupied])
