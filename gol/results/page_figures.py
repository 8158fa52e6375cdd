"""The figures of the report page: drawn, and embedded as data URIs with what they show in words."""

import base64
import io
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol.config.layout import DIFFERENCES, Layout, file_name
from gol.errors import UserError
from gol.evaluation.diagnosis import Diagnosis
from gol.results import class_plots, plots
from gol.results.comparison import plot_comparison
from gol.results.drawing import png_alone
from gol.results.example_plot import plot_examples
from gol.results.rows import ClassRow, Row, Tables
from gol.results.runs import Run

if TYPE_CHECKING:
    from PIL import Image

_LARGEST = 1_500_000  # bytes of an embedded PNG
_LARGEST_JPEG = 2_900_000  # bytes: below 4 MB as a data URI
_QUALITIES = (85, 70, 55, 40)  # of a JPEG: the first that is small enough, or the last


@dataclass(frozen=True)
class Picture:
    """A figure inside the page.

    Attributes:
        source: the image as a data URI.
        alt: what it shows, in words.
        caption: how to read it.
        width: in pixels.
        height: in pixels.
    """

    source: str
    alt: str
    caption: str
    width: int
    height: int


Drawings = dict[str, tuple[Callable[[Path], Any], str, str]]
"""Name in the template to what draws the figure into a file, its alt text and its caption."""


def result_drawings(runs: Sequence[Run], tables: Tables, classes: Sequence[ClassRow]) -> Drawings:
    """What every report shows.

    Args:
        runs: finished runs.
        tables: title to rows.
        classes: whose training images are shown.
    """
    folders = [run.folder.path for run in runs]
    return {
        "groups": (
            lambda path: plots.plot_groups(tables, path),
            "Bars: mask AP over all, rare, common and frequent classes, one bar per method",
            "Mean over seeds; whiskers are one sample standard deviation, dots the seeds.",
        ),
        "per_class": (
            lambda path: class_plots.plot_per_class(tables, path),
            "Scatter: mask AP of each class against its number of training images",
            "A dot is a class, a line the mean of classes of similar frequency.",
        ),
        "loss": (
            lambda path: plots.plot_curves(folders, tables, path),
            "Lines: training loss against the iteration, one line per method",
            "Running mean over 5 % of the points; a band spans the seeds.",
        ),
        "validation": (
            lambda path: plots.plot_validation(runs, tables, path),
            "Lines: AP of the validations during training, one line per method",
            "",
        ),
        "distribution": (
            lambda path: class_plots.plot_distribution(classes, path),
            "Bars: training images of each class, from the most frequent to the rarest",
            "One bar per class; the vertical axis is logarithmic from 1 on.",
        ),
        "examples": (
            lambda path: plot_examples(runs, tables, path),
            "Validation images: the ground truth, and below it what each method finds, with class "
            "names and scores",
            "Images with objects of the rarest classes; the first seed of each method.",
        ),
    }


def comparison_drawings(layout: Layout, rows: Sequence[Row]) -> Drawings:
    """The layout's own figures, as ``comparison_…``."""
    return {
        f"comparison_{file_name(title)}": (
            lambda path, title=title, groups=groups: plot_comparison(title, groups, rows, path),
            f"Bars: mask AP of all and of rare classes for each model: {title}",
            "Full bars are these runs, pale bars published values on the same dataset.",
        )
        for title, groups in layout.figures.items()
    }


def diagnosis_drawings(diagnosis: Diagnosis) -> Drawings:
    """What single detections show."""
    return {
        "precision_recall": (
            lambda path: class_plots.plot_precision_recall(diagnosis, path),
            "Curves: precision against recall for all, rare, common and frequent classes",
            "Mean over the classes of a group. The area below a curve on the left is its AP.",
        ),
        "confusion": (
            lambda path: class_plots.plot_confusion(diagnosis, path),
            "Matrix: the class of the objects against the class that they were found as",
            "Share of each row's objects, at IoU 0.5 and each class's best threshold.",
        ),
    }


def difference_drawing(path: str | Path) -> Drawings:
    """The figure that stands beside a ``differences.json``, if it is there."""
    return {
        "differences": (
            lambda copy: _copied(Path(path).parent / "figures" / f"{DIFFERENCES}.png", copy),
            "Intervals: difference of each method's mask AP and APr from the baseline's",
            "Full dots are real after correction for the number of methods.",
        )
    }


def _copied(path: Path, copy: Path) -> None:
    from PIL import Image

    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.save(copy)
    except FileNotFoundError:
        return
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is not a figure of `gol compare`") from error


def draw(drawings: Drawings) -> Mapping[str, Picture]:
    """Name in the template to picture.

    Args:
        drawings: one that writes no file is left out.

    Raises:
        UserError: a run's logs, or the figure of differences, are damaged.
    """
    pictures = {}
    with tempfile.TemporaryDirectory() as folder, png_alone():
        for name, (draw_into, alt, caption) in drawings.items():
            path = Path(folder) / "figure.png"
            path.unlink(missing_ok=True)
            draw_into(path)
            if path.exists():
                pictures[name] = _embed(path, alt, caption)
    return pictures


def _embed(path: Path, alt: str, caption: str) -> Picture:
    """A picture as a data URI; one of many bytes, as photos have, becomes a JPEG."""
    from PIL import Image

    content, kind = path.read_bytes(), "png"
    with Image.open(path) as image:
        if len(content) > _LARGEST:
            content, kind = _jpeg(image.convert("RGB")), "jpeg"
        width, height = image.size
    uri = f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
    return Picture(uri, alt, caption, width, height)


def _jpeg(image: "Image.Image") -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        if buffer.tell() <= _LARGEST_JPEG:
            break
    return buffer.getvalue()
