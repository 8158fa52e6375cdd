"""Figures of finished runs: training curves and AP by frequency group.

matplotlib is imported inside and used without pyplot, so there is no display, no global state and
nothing to close. What all figures of runs share is in ``gol.results.drawing``, those of single
classes in ``gol.results.class_plots``.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gol.groups import GROUP_METRICS
from gol.results import quoting
from gol.results.drawing import panels, say_if_flat, zero_based
from gol.results.rows import Tables, mean_std
from gol.results.runs import Run, read_curve, read_runs, read_validation

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_groups(tables: Tables, path: str | Path) -> None:
    """Draws mask AP over all, rare, common and frequent classes, one bar a row.

    Bars are means over seeds, whiskers one sample standard deviation, dots the single seeds.

    Args:
        tables: title to rows of ``gol.results.rows.collect``; each has a panel, a long one several.
        path: figure to write; the suffix gives the format.
    """
    with panels(tables, path, width=8.0) as drawn:
        for axes, rows, styles in drawn:
            width = 0.8 / max(len(rows), 2)
            axes.axvspan(-0.5, 0.5, color="#F2F2F2", linewidth=0, zorder=0)
            for index, (row, style) in enumerate(zip(rows, styles, strict=True)):
                look = {"color": style["color"], "hatch": style["hatch"], "edgecolor": "white"}
                for group, metric in enumerate(GROUP_METRICS):
                    x = group + (index - (len(rows) - 1) / 2) * width
                    label = quoting.figure(row.label) if group == 0 else None
                    draw_bar(axes, x, row.values[metric], width=0.9 * width, label=label, **look)
            ticks = [f"{name}\n({text})" for name, text in GROUP_METRICS.items()]
            axes.set_xticks(range(len(GROUP_METRICS)), ticks)
            axes.set_xlim(-0.5, len(GROUP_METRICS) - 0.5)
            axes.set_ylabel("mask AP × 100")
            axes.tick_params(axis="x", length=0)
            zero_based(axes)
            say_if_flat(axes, (v for row in rows for m in GROUP_METRICS for v in row.values[m]))


def draw_bar(axes: "Axes", x: float, values: Sequence[float | None], **look: Any) -> None:
    """One bar: the mean of the values that are there, their deviation and, as dots, themselves."""
    mean, std = mean_std(values)
    if mean is None:
        axes.bar(x, 0, **look)  # its place in the legend
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
    shown = {row.trained_as for rows in tables.values() for row in rows}
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in read_runs(run_folders):
        if run.identity.experiment in shown:
            points = [p for p in read_curve(run.folder.path) if "loss" in p]
            iterations, losses = _series(points, "loss")
            seeds = curves.setdefault(run.identity.experiment, [])
            seeds.append((iterations, _running_mean(losses)))
    _draw_curves(curves, tables, path, "training loss (running mean)")


def plot_validation(runs: Iterable[Run], tables: Tables, path: str | Path) -> bool:
    """Draws the mask AP (or box AP) of the validations during training; False if there is none.

    Args:
        runs: finished runs.
        tables: title to rows, as for ``plot_groups``.
        path: figure to write; the suffix gives the format.

    Raises:
        UserError: a run's scores are damaged.
    """
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    for run in runs:
        if points := read_validation(run.folder):
            iterations, scores = _series(points, "AP")
            curves.setdefault(run.identity.experiment, []).append((iterations, 100 * scores))
    if curves:
        _draw_curves(curves, tables, path, "validation AP × 100", zero=True)
    return bool(curves)


def _series(points: Sequence[dict[str, float]], key: str) -> tuple[np.ndarray, np.ndarray]:
    return np.array([p["iteration"] for p in points]), np.array([p[key] for p in points])


def _draw_curves(
    curves: dict[str, list], tables: Tables, path: str | Path, label: str, zero: bool = False
) -> None:
    with panels(tables, path, width=7.0) as drawn:
        for axes, rows, styles in drawn:
            drawn_here = set()  # a training has several rows where it is calibrated
            for row, style in zip(rows, styles, strict=True):
                name = row.trained_as
                if name in curves and name not in drawn_here:
                    drawn_here.add(name)
                    _draw_curve(axes, curves[name], row.training, style["color"])
            axes.set_xlabel("iteration")
            axes.set_ylabel(label)
            axes.margins(x=0.01)
            if zero:
                zero_based(axes)


def _draw_curve(axes: "Axes", seeds: list, label: str, colour: str) -> None:
    grid = min((iterations for iterations, _ in seeds), key=len)
    if len(grid) == 0:
        return
    losses = np.stack([np.interp(grid, iterations, loss) for iterations, loss in seeds])
    suffix = f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
    label = quoting.figure(label) + suffix
    marker = "." if len(grid) < 30 else None
    axes.plot(grid, losses.mean(0), linewidth=1.6, label=label, color=colour, marker=marker)
    if len(seeds) > 1:
        axes.fill_between(grid, losses.min(0), losses.max(0), color=colour, alpha=0.2, linewidth=0)


def _running_mean(values: np.ndarray) -> np.ndarray:
    """Centred running mean, shape kept; at the ends over the part of the window that is there."""
    window = np.ones(2 * (len(values) // 40) + 1)
    if len(values) == 0:
        return values
    weight = np.convolve(np.ones(len(values)), window, mode="same")
    return np.convolve(values, window, mode="same") / weight
