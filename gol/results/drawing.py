"""What the figures of runs share: panels, styles, legends that fit, and the files."""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol.files import atomic_path
from gol.groups import GROUPS
from gol.results import quoting
from gol.results.colours import PALETTE, assign_colours
from gol.results.rows import ClassRow, Row, Tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_CHARACTERS_PER_INCH = 12.5  # of the legend's font
_beside_a_png: ContextVar[tuple[str, ...]] = ContextVar("beside a PNG", default=(".pdf",))
Panel = tuple["Axes", Sequence[Row], list[dict[str, Any]]]


@contextmanager
def panels(tables: Tables, path: str | Path, width: float) -> Iterator[list[Panel]]:
    """Yields axes with the rows to draw and their styles, one below the other; then writes all.

    Args:
        tables: title to rows; each has a panel, and several where it has more rows than there are
            colours.
        path: figure to write; the suffix gives the format.
        width: of the figure, in inches.
    """
    parts = [(title, part) for title, rows in tables.items() for part in _parts(rows)] or [("", [])]
    colours = assign_colours({row.experiment: row.classifier for row in rows} for _, rows in parts)
    heights = [
        3.7 + 0.17 * sum(_wrapped(r.label, width).count("\n") + 1 for r in rows)
        for _, rows in parts
    ]
    figure = new_figure(width, sum(heights))
    grid = figure.subplots(len(parts), squeeze=False, height_ratios=heights)[:, 0]
    for axes in grid:
        tidy(axes)
    yield [
        (axes, rows, _styles(rows, colours)) for axes, (_, rows) in zip(grid, parts, strict=True)
    ]
    for axes, (title, _) in zip(grid, parts, strict=True):
        add_legend(axes, title, width)
    save(figure, path)


def _parts(rows: Sequence[Row]) -> list[list[Row]]:
    """The rows in parts of so few experiments that each has a colour of its own."""
    names = list(dict.fromkeys(row.experiment for row in rows))
    parts = [names[i : i + len(PALETTE)] for i in range(0, len(names), len(PALETTE))]
    return [[row for row in rows if row.experiment in part] for part in parts]


def _styles(rows: Sequence[Row], colours: Mapping[str, str]) -> list[dict[str, Any]]:
    """One colour an experiment; hatched and dashed where it is scored another way."""
    return [
        {
            "color": colours[row.experiment],
            "linestyle": "-" if row.primary else "--",
            "hatch": None if row.primary else "///",
        }
        for row in rows
    ]


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def tidy(axes: "Axes") -> None:
    """Takes away the frame and draws pale lines behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)


def zero_based(axes: "Axes") -> None:
    """Lets the vertical axis begin at 0; where all is 0, it still has a scale that can be read."""
    axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))


def add_legend(axes: "Axes", title: str = "", width: float = 7.0) -> None:
    """Puts title and legend above the axes, where they hide no data and fit.

    Args:
        axes: what to explain.
        title: stands above the legend.
        width: of the figure, in inches: long labels are wrapped, and stand below each other.
    """
    handles, labels = axes.get_legend_handles_labels()
    longest = max(map(len, labels), default=0)
    columns = 2 if longest <= (width - 1.5) * _CHARACTERS_PER_INCH / 2 - 4 else 1
    legend = axes.legend(
        handles,
        [_wrapped(label, width) for label in labels],
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        borderaxespad=0,
        ncols=columns,
        frameon=False,
        fontsize=9,
        handlelength=3,
        title=_wrapped(quoting.figure(title), width),
        alignment="left",
    )
    legend.get_title().set_fontweight("bold")


def _wrapped(text: str, width: float) -> str:
    """A quoted text in at most two lines that fit into a figure's legend; the rest is cut."""
    fitting = int((width - 1.5) * _CHARACTERS_PER_INCH)
    plain = text.replace(r"\$", "$")  # so that no line ends between the two
    lines = textwrap.wrap(plain, fitting, max_lines=2, placeholder="…")
    return "\n".join(lines).replace("$", r"\$")


def say_if_flat(axes: "Axes", values: Iterable[float | None]) -> None:
    """Says in an empty or flat figure that it is not broken."""
    there = [value for value in values if value is not None]
    if not any(there):
        text = "AP is 0.0 everywhere" if there else "no class could be measured"
        centre = {"transform": axes.transAxes, "ha": "center", "va": "center"}
        axes.text(0.5, 0.5, text, color="#555555", **centre)


def plot_note(text: str, path: str | Path) -> None:
    """Draws a sentence in the place of a figure that it explains the lack of."""
    figure = new_figure(8.0, 0.8)
    look = {"fontsize": 9, "color": "#555555", "ha": "center", "va": "center"}
    figure.text(0.5, 0.5, textwrap.fill(quoting.figure(text), 100), **look)
    save(figure, path)


def mark_groups(axes: "Axes", classes: Sequence[ClassRow]) -> None:
    """Names rare, common and frequent classes below the top of an axis of image counts.

    Groups that are no ranges of the counts, as a file may have them, are not marked.
    """
    spans = {}
    for group, name in GROUPS.items():
        if counts := [c.images for c in classes if c.group == group and c.images is not None]:
            spans[name] = (min(counts), max(counts))
    ends = list(spans.values())
    if any(low[1] >= high[0] for low, high in pairwise(ends)):
        return
    for index, (name, (low, high)) in enumerate(spans.items()):
        left = axes.get_xlim()[0] if index == 0 else (ends[index - 1][1] + low) / 2
        right = axes.get_xlim()[1] if index == len(ends) - 1 else (high + ends[index + 1][0]) / 2
        if index % 2:
            axes.axvspan(left, right, color="#F2F2F2", linewidth=0, zorder=0)
        middle = ((left + 1) * (right + 1)) ** 0.5 - 1  # of the logarithmic axis
        where = {"transform": axes.get_xaxis_transform(), "ha": "center", "va": "top"}
        axes.text(middle, 0.99, name, fontsize=8, color="#555555", **where)


@contextmanager
def png_alone() -> Iterator[None]:
    """Leaves out the PDF, for figures that become part of another file."""
    token = _beside_a_png.set(())
    try:
        yield
    finally:
        _beside_a_png.reset(token)


def save(figure: "Figure", path: str | Path, photos: bool = False) -> None:
    """Writes a figure atomically; the suffix gives the format, and a PNG has a PDF beside it.

    Args:
        figure: what to write.
        path: the file.
        photos: whether it shows some: its PNG has 256 colours then, and a third of the bytes.
    """
    from matplotlib import rc_context
    from PIL import Image

    path = Path(path)
    others = _beside_a_png.get() if path.suffix == ".png" else ()
    for target in [path, *map(path.with_suffix, others)]:
        kind = target.suffix.removeprefix(".")
        # Without the date the same figure is the same file; as Type 42, text can be searched.
        dateless = {"CreationDate": None} if kind == "pdf" else None
        with atomic_path(target) as temporary, rc_context({"pdf.fonttype": 42}):
            figure.savefig(temporary, format=kind, metadata=dateless)
            if photos and kind == "png":
                with Image.open(temporary) as image:
                    few = image.convert("RGB").quantize(256)
                few.save(temporary, "PNG", optimize=True)
        figure.set_layout_engine("none")  # all has its place now, the same in both files
