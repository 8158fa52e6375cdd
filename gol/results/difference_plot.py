"""The figure of rows beside a baseline: differences with their intervals."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gol.groups import GROUPS
from gol.results import quoting
from gol.results.colours import BLUE
from gol.results.drawing import new_figure, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from gol.results.differences import Difference

_PANELS = {"AP": "all classes", "APr": f"{GROUPS['r']} classes"}


def plot_differences(found: Mapping[str, Sequence["Difference"]], path: str | Path) -> None:
    """Draws the difference of each row's AP and APr from the baseline's, with 95 % intervals.

    Full dots are differences that are real after correction for the number of rows.

    Args:
        found: result of :func:`gol.results.differences.compare`.
        path: figure to write; the suffix gives the format.
    """
    rows = {metric: [row for row in found[metric] if row.difference] for metric in _PANELS}
    labels = list(dict.fromkeys(row.label for metric in _PANELS for row in rows[metric]))
    figure = new_figure(8.0, 1.5 + 0.27 * len(labels))
    for axes, (metric, text) in zip(
        figure.subplots(1, 2, sharey=True), _PANELS.items(), strict=True
    ):
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.grid(axis="x", color="#DDDDDD", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.axvline(0, color="#333333", linewidth=1)
        for row in rows[metric]:
            _draw(axes, row, labels.index(row.label))
        axes.set_title(f"{metric} ({text})", loc="left", fontsize=10)
        axes.tick_params(axis="y", length=0)
        axes.set_yticks(range(len(labels)), [*map(quoting.figure, labels)], fontsize=9)
        axes.set_ylim(len(labels) - 0.5, -0.5)
    base = quoting.figure(next(row.label for row in found["AP"] if not row.difference))
    text = f"mask AP × 100 minus that of {base}, 95 % interval; full: real after correction"
    figure.supxlabel(text, fontsize=9)
    save(figure, path)


def _draw(axes: "Axes", row: "Difference", place: int) -> None:
    axes.plot([row.difference.low, row.difference.high], [place, place], color=BLUE, linewidth=1.6)
    fill = BLUE if row.real else "white"
    axes.plot(row.difference.mean, place, "o", color=BLUE, markerfacecolor=fill, markersize=6)
