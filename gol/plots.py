"""Figures of finished runs: training curves, AP by frequency group, AP of each class.

matplotlib is imported inside and used without pyplot, so there is no display, no global state and
nothing to close.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gol.files import atomic_path
from gol.rows import Row, mean_std
from gol.runs import read_curve, read_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart under the common colour-vision deficiencies.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000")
_GROUPS = {"AP": "all", "APr": "rare", "APc": "common", "APf": "frequent"}


def plot_groups(rows: Sequence[Row], path: str | Path) -> None:
    """Draws mask AP over all, rare, common and frequent classes, one bar a row.

    Bars are means over seeds, whiskers one sample standard deviation, dots the single seeds.

    Args:
        rows: result of ``gol.rows.collect``.
        path: figure to write; the suffix gives the format.
    """
    figure, axes = _figure(width=8.0)
    width = 0.8 / len(rows)
    for index, (row, style) in enumerate(zip(rows, _styles(rows), strict=True)):
        for group, metric in enumerate(_GROUPS):
            mean, std = mean_std(row.values[metric])
            if mean is None:
                continue
            x = group + (index - (len(rows) - 1) / 2) * width
            look = {"color": style["color"], "hatch": style["hatch"], "edgecolor": "white"}
            axes.bar(x, mean, 0.9 * width, label=row.label if group == 0 else None, **look)
            if std is not None:
                axes.errorbar(x, mean, std, color="#333333", capsize=3, linewidth=1)
                seeds = [value for value in row.values[metric] if value is not None]
                axes.plot([x] * len(seeds), seeds, ".", color="#333333", markersize=3, alpha=0.6)
    axes.set_xticks(range(len(_GROUPS)), [f"{name}\n({text})" for name, text in _GROUPS.items()])
    axes.set_ylabel("mask AP × 100")
    axes.set_ylim(bottom=0)
    axes.tick_params(axis="x", length=0)
    _finish(figure, axes, path)


def plot_curves(run_folders: Iterable[str | Path], path: str | Path) -> None:
    """Draws the training loss against the iteration, one line an experiment.

    Each seed's loss is a running mean over 5 % of the points; the line is the mean over seeds and
    the band reaches from the lowest to the highest seed.

    Args:
        run_folders: run folders with a ``metrics.jsonl``.
        path: figure to write; the suffix gives the format.

    Raises:
        UserError: a folder is incomplete.
    """
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    labels = {}
    for run in read_runs(run_folders):
        points = [point for point in read_curve(run.folder) if "loss" in point]
        iterations = np.array([point["iteration"] for point in points])
        losses = np.array([point["loss"] for point in points])
        curves.setdefault(run.experiment, []).append((iterations, _running_mean(losses)))
        labels[run.experiment] = run.label
    figure, axes = _figure(width=7.0)
    for index, (experiment, seeds) in enumerate(curves.items()):
        grid = min((iterations for iterations, _ in seeds), key=len)
        if len(grid) == 0:
            continue
        losses = np.stack([np.interp(grid, iterations, loss) for iterations, loss in seeds])
        suffix = f" ({len(seeds)} seeds)" if len(seeds) > 1 else ""
        colour = _COLOURS[index % len(_COLOURS)]
        line = {"color": colour, "linestyle": ("-", "--")[index // len(_COLOURS) % 2]}
        axes.plot(grid, losses.mean(0), linewidth=1.6, label=labels[experiment] + suffix, **line)
        if len(seeds) > 1:
            lowest, highest = losses.min(0), losses.max(0)
            axes.fill_between(grid, lowest, highest, color=colour, alpha=0.2, linewidth=0)
    axes.set_xlabel("iteration")
    axes.set_ylabel("training loss (running mean)")
    axes.margins(x=0.01)
    _finish(figure, axes, path)


def plot_per_class(rows: Sequence[Row], path: str | Path) -> None:
    """Draws each class's mask AP against its number of training images.

    Dots are classes (mean over seeds), the line joins the means of the classes in bins of equal
    width on the logarithmic axis.

    Args:
        rows: result of ``gol.rows.collect``.
        path: figure to write; the suffix gives the format.
    """
    figure, axes = _figure(width=7.0)
    for row, style in zip(rows, _styles(rows), strict=True):
        if not row.per_class:
            continue
        counts, aps = np.array(row.per_class, dtype=float).T
        axes.plot(counts, 100 * aps, ".", color=style["color"], markersize=4, alpha=0.35)
        centres, means = _binned(counts, 100 * aps)
        line = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.8}
        axes.plot(centres, means, marker="o", markersize=5, label=row.label, **line)
    # Linear below 1, so that a class without any training image has a place at 0.
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("training images with the class")
    axes.set_ylabel("mask AP × 100")
    axes.set_ylim(bottom=-2)
    _finish(figure, axes, path)


def _figure(width: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def _finish(figure: "Figure", axes: "Axes", path: str | Path) -> None:
    """Puts the legend above the axes, where it hides no data, and writes the file."""
    if axes.get_legend_handles_labels()[0]:
        figure.legend(loc="outside upper left", ncols=2, frameon=False, fontsize=9, handlelength=3)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format=Path(path).suffix.removeprefix("."))


def _styles(rows: Sequence[Row]) -> list[dict[str, str | None]]:
    """One colour an experiment; hatched and dashed where it is scored another way."""
    experiments = list(dict.fromkeys(row.experiment for row in rows))
    styles = []
    for row in rows:
        index = experiments.index(row.experiment)
        plain = row.primary and index < len(_COLOURS)
        styles.append(
            {
                "color": _COLOURS[index % len(_COLOURS)],
                "linestyle": "-" if plain else "--",
                "hatch": None if plain else "///",
            }
        )
    return styles


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
