"""How cost grows with candidates, classes, image size and images: ours and the reference, in turns.

It measures with the functions of ``bench_nms.py``, ``bench_masks.py`` and ``bench_evaluate.py``,
which compare every result, and draws ``scaling.png`` beside the table.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import bench_evaluate
import bench_masks
import bench_nms
import measuring
import torch

SERIES = ("candidates", "classes", "megapixels", "images")
TITLES = {
    "candidates": "Detections of an image\n1,000 proposals, 1,203 classes",
    "classes": "Detections of an image\n1,000 proposals, one box a class",
    "megapixels": "Masks of an image to run lengths\n300 masks",
    "images": "Scoring masks and boxes\n1,203 classes, 300 boxes an image",
}
REFERENCES = dict(zip(SERIES, ("mmdet", "mmdet", "mmdet", "lvis-api"), strict=True))
COLOURS = {"reference": "#D55E00", "gol": "#0072B2"}


def points(series: str, args: argparse.Namespace) -> list[tuple[float, float, float]]:
    """Along one series: its size, and CPU seconds of the reference and ours."""
    if series in ("candidates", "classes"):
        cases = [(1000, 1203, logit, False) for logit in args.backgrounds]
        if series == "classes":
            cases = [(1000, classes, 8.0, False) for classes in args.classes]
        return [choosing(case, series, args) for case in cases]
    if series == "megapixels":
        return [pasting(text, args) for text in args.sizes]
    return [scoring(images, args) for images in args.images]


def choosing(case: tuple, series: str, args: argparse.Namespace) -> tuple[float, float, float]:
    with torch.inference_mode():
        pair, candidates = bench_nms.functions(case, args)
        seconds = measuring.in_turns(pair, bench_nms.same, args.runs)
    return candidates if series == "candidates" else case[1], *seconds


def pasting(text: str, args: argparse.Namespace) -> tuple[float, float, float]:
    width, height = map(int, text.split("x"))
    case = bench_masks.inputs(args.seed, args.detections, (height, width), "smooth")
    slow, fast = bench_masks.seconds(case, args.runs)
    return width * height / 1e6, slow, fast


def scoring(images: int, args: argparse.Namespace) -> tuple[float, float, float]:
    with tempfile.TemporaryDirectory() as folder:
        _, paths = bench_evaluate.files(Path(folder), images, 1203, 300, 480, args.seed)
        row = bench_evaluate.measure(paths, 1)
    return images, row["lvis-api s"], row["gol s"]


def draw(found: dict[str, list[tuple[float, float, float]]], path: Path) -> None:
    """A panel for each series, all with logarithmic axes."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    size = (3.6 * len(found), 3.6)
    figure, axes = pyplot.subplots(1, len(found), figsize=size, squeeze=False, sharey=True)
    for axis, (series, rows) in zip(axes[0], found.items(), strict=True):
        sizes, slow, fast = zip(*rows, strict=True)
        for name, seconds, colour, above in (
            (REFERENCES[series], slow, COLOURS["reference"], 7),
            ("gol", fast, COLOURS["gol"], -16),
        ):
            axis.loglog(sizes, seconds, "o-", color=colour)
            axis.annotate(
                name, (sizes[-1], seconds[-1]), (0, above), textcoords="offset points",
                ha="right", color=colour, fontweight="bold",
            )  # fmt: skip
        axis.set_title(TITLES[series], fontsize=10)
        axis.set_xlabel(series)
        axis.set_xticks(sizes, map(_short, sizes))
        axis.tick_params(axis="x", labelsize=8)
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.margins(x=0.12, y=0.2)
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0][0].set_ylabel("CPU seconds")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def _short(size: float) -> str:
    return f"{size / 1000:.0f}k" if size >= 10_000 else f"{size:.2g}" if size < 10 else f"{size:,}"


def main() -> None:
    """Measures, prints the table and draws the figure."""
    parser = measuring.arguments(__doc__, "scaling")
    parser.set_defaults(runs=1, out=Path("results/bench"))
    parser.add_argument("--series", nargs="+", choices=SERIES, default=SERIES)
    parser.add_argument("--backgrounds", type=float, nargs="+", default=[14, 12, 10, 8])
    parser.add_argument("--classes", type=int, nargs="+", default=[80, 300, 600, 1203])
    sizes = ["320x240", "640x480", "1280x960", "1920x1080", "3840x2160"]
    parser.add_argument("--sizes", nargs="+", default=sizes)
    parser.add_argument("--images", type=int, nargs="+", default=[25, 50, 100, 200])
    parser.add_argument("--detections", type=int, default=300, help="of an image, at most")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    bench_nms.functions((10, 80, 8.0, False), args)[0][0]()  # loads what it needs
    found = {series: points(series, args) for series in args.series}
    rows: list[dict[str, Any]] = [
        {"grows": series, "size": size, "reference": REFERENCES[series]}
        | {"reference s": slow, "gol s": fast, "times faster": slow / fast}
        for series, results in found.items()
        for size, slow, fast in results
    ]
    note = "CPU seconds in turns; results compared as in the benchmark of each part."
    measuring.report(args, "scaling", "How cost grows", rows, note)
    draw(found, args.out / "scaling.png")


if __name__ == "__main__":
    main()
