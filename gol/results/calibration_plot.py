"""The curve of a fit: AP on half of the training images over a calibration's strength."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gol.calibration import calibration
from gol.groups import GROUPS
from gol.results.class_plots import GROUP_COLOURS
from gol.results.colours import BLACK
from gol.results.drawing import add_legend, new_figure, save, tidy, zero_based

if TYPE_CHECKING:
    from gol.engine.calibrate import Point

_LINES = {
    "AP": ("all classes", BLACK),
    **{f"AP{group}": (name, GROUP_COLOURS[group]) for group, name in GROUPS.items()},
}


def plot_fit(scoring: str, curve: Sequence["Point"], best: float, path: str | Path) -> None:
    """Draws the curve as PNG and PDF.

    Args:
        scoring: ACTIVATION+CALIBRATION.
        curve: by ascending strength.
        best: the strength of the best AP.
        path: of the record; the figure takes its name.
    """
    activation, _, method = scoring.partition("+")
    chosen = calibration(method)
    figure = new_figure(7.0, 4.0)
    axes = figure.subplots()
    tidy(axes)
    for metric, (label, colour) in _LINES.items():
        points = [(p.strength, getattr(p, metric)) for p in curve]
        there = [(x, 100 * y) for x, y in points if y is not None]
        if there:
            style = {"color": colour, "marker": ".", "linewidth": 2.2 if metric == "AP" else 1.4}
            axes.plot(*zip(*there, strict=True), label=f"{metric} ({label})", **style)
    axes.axvline(best, color="#888888", linewidth=1, linestyle="--")
    text = f"best AP at {best:.3g}"
    at = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points"}
    axes.annotate(text, (best, 0.02), xytext=(5, 0), fontsize=9, color="#555555", **at)
    axes.set_xlabel(f"{chosen.parameter} of {chosen.title}, {activation}")
    axes.set_ylabel("AP × 100, half of the training images")
    zero_based(axes)
    add_legend(axes)
    save(figure, Path(path).with_suffix(".png"))
