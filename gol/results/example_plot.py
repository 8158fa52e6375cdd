"""Draws validation images side by side: a line for the ground truth and one for each method."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import hotcoco
import numpy as np

from gol.errors import UserError, visible
from gol.evaluation.diagnosis import IOU
from gol.results import quoting
from gol.results.drawing import new_figure, save
from gol.results.examples import MOST, Block, Example, Thing, read_blocks
from gol.results.rows import Tables
from gol.results.runs import Run

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from supervision import Color

_WIDTH, _EDGE, _GAP = 8.0, 0.08, 0.1  # inches, as all lengths here
_HEADING, _NAME, _NUMBER = 0.24, 0.145, 0.2
_HIGHEST = 2.4  # of an image
_ASPECTS = (1.0, 2.0)  # width to height of an image's place
_CHARACTERS_PER_INCH = 18.5  # of the names
_TAG = 20  # pixels of a number's side
_TRUTH = "Ground truth (in brackets: training images with the class)"
_FOOT = (
    f"As many detections as the image has objects, at most {MOST}, the best-scored first.  "
    f"✓: right class and place (IoU ≥ {IOU})."
)


def plot_examples(runs: Iterable[Run], tables: Tables, path: str | Path) -> str:
    """Draws what is annotated in some validation images and what each row's first seed finds.

    Args:
        runs: finished runs, those of the rows among them.
        tables: title to rows.
        path: figure to write; the suffix gives the format.

    Returns:
        Why there is nothing to draw, which is printed, too; empty where the figure was written.
    """
    try:
        blocks = read_blocks(runs, tables)
    except UserError as error:
        reason = visible(f"no examples: {error}")
        print(reason, file=sys.stderr, flush=True)
        return reason
    lines = [line for block in blocks for line in _lines(block)]
    figure = new_figure(_WIDTH, sum(line.height for line in lines) + _HEADING)
    figure.set_layout_engine("none")
    top = figure.get_figheight() - _EDGE
    for line in lines:
        _draw_line(figure, line, top)
        top -= line.height
    x, y = _EDGE / _WIDTH, _EDGE / figure.get_figheight()
    figure.text(x, y, _FOOT, fontsize=7.5, color="#555555")
    save(figure, path, photos=True)
    return ""


@dataclass(frozen=True)
class _Line:
    """A method, or the ground truth.

    Attributes:
        heading: stands above the images.
        examples: the images.
        things: what is drawn into each.
        names: what stands below each.
        sides: width and height of each image's place.
        height: of all.
    """

    heading: str
    examples: list[Example]
    things: list[list[Thing]]
    names: list[list[str]]
    sides: list[tuple[float, float]]
    height: float


def _lines(block: Block) -> list[_Line]:
    examples = block.examples
    lines = [
        (_TRUTH, [each.objects[:MOST] for each in examples]),
        *((label, [e.found[i] for e in examples]) for i, label in enumerate(block.methods)),
    ]
    names = [[_object_names(each, block) for each in examples]]
    names += [[_found_names(each, block) for each in things] for _, things in lines[1:]]
    aspects = [np.clip(each.size[1] / each.size[0], *_ASPECTS) for each in examples]
    free = _WIDTH - 2 * _EDGE - _GAP * (len(examples) - 1)
    high = min(free / sum(aspects), _HIGHEST)
    below = max(len(each) for texts in names for each in texts) + 0.8
    return [
        _Line(
            *(heading, examples, things, texts),
            sides=[(aspect * high, high) for aspect in aspects],
            height=_HEADING + high + below * _NAME,
        )
        for (heading, things), texts in zip(lines, names, strict=True)
    ]


def _object_names(example: Example, block: Block) -> list[str]:
    classes = [block.classes[thing.label] for thing in example.objects[:MOST]]
    names = [name if count is None else f"{name} ({count:,})" for name, count in classes]
    more = len(example.objects) - MOST
    return [*names, f"and {more} more"] if more > 0 else names


def _found_names(things: Sequence[Thing], block: Block) -> list[str]:
    marks = {True: " ✓", False: ""}
    return [f"{t.score:.2f} {block.classes[t.label][0]}{marks[t.right]}" for t in things]


def _draw_line(figure: "Figure", line: _Line, top: float) -> None:
    """Draws it below a place, in inches from the figure's bottom."""
    width, height = figure.get_size_inches()
    look = {"fontsize": 9, "fontweight": "bold", "va": "top"}
    figure.text(_EDGE / width, top / height, quoting.figure(line.heading), **look)
    left, below = _EDGE, top - _HEADING
    for example, things, names, (wide, high) in zip(
        line.examples, line.things, line.names, line.sides, strict=True
    ):
        place = (left / width, (below - high) / height, wide / width, high / height)
        axes = figure.add_axes(place, anchor="NW")
        axes.axis("off")
        _draw_image(axes, example, things, (wide * figure.dpi, high * figure.dpi))
        for index, name in enumerate(names):
            y = (below - high - (index + 0.65) * _NAME) / height
            look = {"fontsize": 7, "va": "center"}
            if index < len(things):
                number = _tag(things[index], index)
                figure.text((left + 0.03) / width, y, **look, **number)
            text = quoting.figure(_cut(name, wide - _NUMBER))
            figure.text((left + _NUMBER) / width, y, text, **look)
        left += wide + _GAP


def _cut(name: str, wide: float) -> str:
    """The name as far as it fits, in inches; its end stays, where classes often differ."""
    name, longest = visible(name), int(wide * _CHARACTERS_PER_INCH)
    if len(name) <= longest:
        return name
    kept = longest - 1
    return f"{name[: kept - kept // 2]}…{name[len(name) - kept // 2 :]}"


def _tag(thing: Thing, index: int) -> dict[str, Any]:
    """The number by which a thing is found in the image, in the class's colour."""
    colour = _colour(thing)
    dark = 0.299 * colour.r + 0.587 * colour.g + 0.114 * colour.b < 140
    box = {"facecolor": colour.as_hex(), "edgecolor": "none", "pad": 1.2}
    return {"s": str(index + 1), "color": "white" if dark else "black", "bbox": box}


def _colour(thing: Thing) -> "Color":
    """A class's colour, the same as in the pictures of `gol predict`."""
    import supervision as sv

    return sv.ColorPalette.DEFAULT.by_idx(thing.label)


def _draw_image(
    axes: "Axes", example: Example, things: Sequence[Thing], place: tuple[float, float]
) -> None:
    """Draws the image as large as fits into so many pixels, width and height."""
    import supervision as sv

    height, width = example.size
    scale = min(place[0] / width, place[1] / height)
    size = max(round(scale * width), 1), max(round(scale * height), 1)
    scene = _resized(example.pixels, size)
    for thing in reversed(things):  # the first is on top
        x, y, w, h = thing.box
        box = np.array([[x, y, x + w, y + h]]) * scale
        mask = None if thing.mask is None else _resized(hotcoco.mask.decode(thing.mask) * 255, size)
        found = sv.Detections(
            xyxy=box,
            mask=None if mask is None else mask[None] > 127,
            class_id=np.array([thing.label]),
        )
        if mask is None:
            scene = sv.BoxAnnotator(thickness=2).annotate(scene, found)
        else:
            scene = sv.MaskAnnotator(opacity=0.35).annotate(scene, found)
            scene = sv.PolygonAnnotator(thickness=2).annotate(scene, found)
    axes.imshow(scene[:, :, ::-1], interpolation="none")
    taken: list[tuple[float, float]] = []
    for index, thing in enumerate(things):
        x, y = (float(np.clip(scale * v, 0, s)) for v, s in zip(thing.box, size, strict=False))
        while any(abs(x - other) < _TAG and abs(y - row) < _TAG for other, row in taken):
            x += _TAG
        taken.append((x, y))
        above = y > _TAG  # where there is room: a small object would be hidden
        axes.text(x, y, **_tag(thing, index), fontsize=6.5, va="bottom" if above else "top")


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    smooth = cv2.INTER_AREA if pixels.shape[0] > size[1] else cv2.INTER_NEAREST
    return cv2.resize(pixels, size, interpolation=smooth)
