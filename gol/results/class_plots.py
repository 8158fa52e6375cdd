"""Figures of classes: AP against frequency, the data's long tail, precision and recall, confusion.

As in ``gol.results.plots``, matplotlib is imported inside.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gol.errors import plural
from gol.evaluation.diagnosis import Diagnosis
from gol.groups import GROUPS
from gol.results import quoting
from gol.results.colours import BLUE, GREEN, ORANGE
from gol.results.drawing import add_legend, mark_groups, new_figure, panels, save, say_if_flat, tidy
from gol.results.rows import ClassRow, Tables

if TYPE_CHECKING:
    from matplotlib.axis import Axis

#: The colours of rare, common and frequent classes where those are compared.
GROUP_COLOURS = dict(zip(GROUPS, (ORANGE, GREEN, BLUE), strict=True))
MOST_CONFUSED = 60  # classes whose confusion can still be read in a matrix


def plot_per_class(tables: Tables, path: str | Path) -> None:
    """Draws each class's mask AP against its number of training images.

    Dots are classes (mean over seeds), the line joins the means of the classes in bins of equal
    width on the logarithmic axis.

    Args:
        tables: title to rows, as for ``gol.results.plots.plot_groups``.
        path: figure to write; the suffix gives the format.
    """
    with panels(tables, path, width=7.0) as drawn:
        for axes, rows, styles in drawn:
            highest, fewest = 1.0, np.inf
            for row, style in zip(rows, styles, strict=True):
                known = [c for c in row.per_class if c.images is not None and c.mean is not None]
                if not known:
                    continue
                counts = np.array([c.images for c in known], float)
                aps = np.array([c.mean for c in known])
                highest, fewest = max(highest, aps.max()), min(fewest, counts.min())
                size = 4 if len(known) < 300 else 2
                axes.plot(counts, aps, ".", color=style["color"], markersize=size, alpha=0.35)
                line = {"color": style["color"], "linestyle": style["linestyle"], "linewidth": 1.8}
                label = quoting.figure(row.label)
                axes.plot(*_binned(counts, aps), marker="o", markersize=5, label=label, **line)
            axes.set_xscale("symlog", linthresh=1)
            _mark_counts(axes.xaxis, max(axes.dataLim.x1, 1))
            axes.set_xlim(left=0.7 * fewest if 1 <= fewest < np.inf else 0)
            axes.set_xlabel("training images with the class")
            axes.set_ylabel("mask AP × 100")
            axes.set_ylim(-0.02 * highest, 1.12 * highest)
            say_if_flat(axes, (c.mean for row in rows for c in row.per_class))
            if rows and np.isfinite(fewest):
                mark_groups(axes, rows[0].per_class)


def plot_distribution(classes: Sequence[ClassRow], path: str | Path) -> None:
    """Draws the number of training images of each class, most first, in the groups' colours.

    Args:
        classes: of a row.
        path: figure to write; the suffix gives the format.
    """
    ranked = sorted((c for c in classes if c.images is not None), key=lambda c: -c.images)
    figure = new_figure(8.0, 3.6)
    axes = figure.subplots()
    tidy(axes)
    for group, name in GROUPS.items():
        places = [(i, c.images) for i, c in enumerate(ranked, 1) if c.group == group]
        if places:
            x, counts = zip(*places, strict=True)
            label = f"{name} ({plural(len(places), 'class')})"
            axes.bar(x, counts, width=1, color=GROUP_COLOURS[group], label=label, linewidth=0)
    axes.set_yscale("symlog", linthresh=1)
    _mark_counts(axes.yaxis, max((c.images for c in ranked), default=1))
    axes.set_ylim(bottom=0)
    axes.set_xlim(0.4, len(ranked) + 0.6)
    axes.set_xlabel("class, by number of training images")
    axes.set_ylabel("training images")
    add_legend(axes, width=8.0)
    save(figure, path)


def _mark_counts(axis: "Axis", most: float) -> None:
    """Marks 1, 10, 100 … on an axis of image counts, and 2 and 5 of each where there are few.

    The axis is linear below 1, so that a class without any training image has a place at 0.
    """
    from matplotlib.ticker import SymmetricalLogLocator

    subs = (1, 2, 5) if most < 1000 else (1,)
    axis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=subs))
    axis.set_major_formatter("{x:,g}")


def plot_precision_recall(diagnosis: Diagnosis, path: str | Path) -> None:
    """Draws precision against recall for all, rare, common and frequent classes, two panels.

    Left the mean over the IoU thresholds, below which the area is AP; right IoU 0.5.

    Args:
        diagnosis: of a run's detections.
        path: figure to write; the suffix gives the format.
    """
    figure = new_figure(8.0, 3.9)
    groups = np.array([c.group for c in diagnosis.classes])
    recalls = np.linspace(0, 1, diagnosis.precision.shape[1])
    titles = {"mean over IoU 0.5–0.95": diagnosis.precision, "IoU 0.5": diagnosis.precision[:1]}
    for axes, (title, precision) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        tidy(axes)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
        for group, name in {"": "all", **GROUPS}.items():
            values = precision[:, :, (groups == group) | (group == "")]
            if not (values >= 0).any():  # no class of the group has ground truth
                continue
            measured = values[:, :, (values >= 0).all((0, 1))]
            area = f"{name} (area {100 * measured.mean():.1f})"
            look = {"color": GROUP_COLOURS.get(group, "#000000"), "linewidth": 1.8}
            axes.plot(recalls, measured.mean((0, 2)), label=area, **look)
        axes.set_xlim(0, 1)
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("recall")
        axes.set_ylabel("precision")
        add_legend(axes, title, width=4.0)
    save(figure, path)


def plot_confusion(diagnosis: Diagnosis, path: str | Path) -> None:
    """Draws which class the objects of each class were found as, in percent of its objects.

    With more than ``MOST_CONFUSED`` classes it is drawn for the groups of classes.

    Args:
        diagnosis: of a run's detections.
        path: figure to write; the suffix gives the format.
    """
    labels, columns, matrix, ends = _shown_confusion(diagnosis)
    share = 100 * matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = len(columns)
    small = size < 12
    figure = new_figure(*((6.2, 3.6) if small else (2.4 + 0.19 * size, 1.4 + 0.19 * size)))
    axes = figure.subplots()
    drawn = axes.imshow(np.ma.masked_equal(share, 0), cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(size), columns, rotation=20 if small else 90, ha="center")
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(labelsize=9 if small else 7)
    if small:
        for (y, x), value in np.ndenumerate(share):
            colour = "white" if value > 55 else "black"
            axes.text(x, y, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=9)
    for end in ends:
        axes.axhline(end - 0.5, color="#888888", linewidth=0.8)
        axes.axvline(end - 0.5, color="#888888", linewidth=0.8)
    axes.set_xlabel("found as")
    axes.set_ylabel("is")
    figure.colorbar(drawn, ax=axes, label="% of the objects", shrink=0.8)
    save(figure, path)


def _shown_confusion(diagnosis: Diagnosis) -> tuple[list[str], list[str], np.ndarray, list[int]]:
    """Labels of rows and columns, the counts, and the places where a group of classes ends."""
    names = list(GROUPS)
    place = np.array([names.index(c.group) for c in diagnosis.classes])
    matrix = diagnosis.confusion[:-1]
    if len(place) <= MOST_CONFUSED:
        order = np.argsort(place, kind="stable")
        labels = [_short(quoting.figure(diagnosis.classes[i].name)) for i in order]
        ends = [*(np.flatnonzero(np.diff(place[order])) + 1).tolist(), len(labels)]
        return labels, [*labels, "missed"], matrix[order][:, [*order, len(place)]], ends
    member = np.eye(len(names), dtype=int)[place].T  # (groups, classes)
    right = np.diag(matrix[:, :-1])
    others = member @ (matrix[:, :-1] - np.diag(right)) @ member.T
    columns = np.column_stack([member @ right, others, member @ matrix[:, -1]])
    other = [f"another {name}\nclass" for name in GROUPS.values()]
    return [*GROUPS.values()], ["the right\nclass", *other, "missed"], columns, []


def _short(text: str) -> str:
    return text if len(text) <= 28 else f"{text[:27]}…"


def _binned(counts: np.ndarray, values: np.ndarray, bins: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Mean position and mean value of the points in each occupied bin of log(1 + count)."""
    position = np.log1p(counts)
    edges = np.linspace(position.min(), position.max(), bins + 1)
    member = np.clip(np.searchsorted(edges, position, side="right") - 1, 0, bins - 1)
    occupied = np.unique(member)
    centres = [np.expm1(position[member == index].mean()) for index in occupied]
    return np.array(centres), np.array([values[member == index].mean() for index in occupied])
