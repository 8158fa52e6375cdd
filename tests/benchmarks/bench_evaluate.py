"""CPU time and memory of our evaluation against lvis-api's, on the same random files.

Each engine runs in turns, each time in a fresh process, from the JSON files to the metrics of masks
and boxes; the numbers are compared each time. The defaults have LVIS's number of classes, of
detections of an image and size of images; ``--images 5000`` takes lvis-api about ten minutes.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import measuring
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from lvis_oracle import flat, lvis_api, random_dataset, random_detections, write

from gol.evaluation.lvis import IOU_TYPES, evaluate


def ours(annotations: Path, detections: Path) -> dict:
    result = evaluate(annotations, detections)
    return {kind: flat(result, kind) for kind in IOU_TYPES}


def theirs(annotations: Path, detections: Path) -> dict:
    dataset, results = (json.loads(path.read_text()) for path in (annotations, detections))
    return {kind: lvis_api(dataset, results, kind) for kind in IOU_TYPES}


def run(engine: Any, *paths: Path) -> tuple[dict, float, float]:
    """Metrics, CPU seconds and the peak of resident memory in MB, imports included."""
    if engine is theirs:  # importing it, and matplotlib with it, is not timed
        import lvis  # noqa: F401

    start = time.process_time()
    metrics = engine(*paths)
    return metrics, time.process_time() - start, measuring.memory("VmHWM")


def files(folder: Path, images: int, classes: int, detections: int, pixels: int, seed: int):
    """Random ground truth and detections, their number, and the paths of both."""
    rng = np.random.default_rng(seed)
    dataset = random_dataset(rng, images, classes, (pixels, pixels + 1))
    found = random_detections(rng, dataset, false_positives=detections, crowded=0)
    return len(found), write(folder, dataset, found)


def measure(paths: tuple[Path, Path], runs: int, ours_only: bool = False) -> dict[str, float]:
    """Medians of both in turns; asserts that they agree to 1e-9."""
    engines = [ours] if ours_only else [theirs, ours]
    numbers: dict[Any, list] = {engine: [] for engine in engines}
    for _ in range(runs):
        results = []
        for engine in engines:
            metrics, *measured = measuring.fresh(run, engine, *paths)
            results.append(metrics)
            numbers[engine].append(measured)
        for kind, wanted in results[0].items():
            for key, value in wanted.items():
                other = results[-1][kind][key]
                assert other == value or abs(other - value) < 1e-9, f"{kind} {key}"
    medians = {
        engine: [median(n) for n in zip(*all_, strict=True)] for engine, all_ in numbers.items()
    }
    row = {"gol s": medians[ours][0], "gol MB": medians[ours][1]}
    if not ours_only:
        seconds, megabytes = medians[theirs]
        row = {"lvis-api s": seconds, "lvis-api MB": megabytes} | row
        row["times faster"] = seconds / medians[ours][0]
    return row


def main() -> None:
    """Prints the table."""
    parser = measuring.arguments(__doc__, "evaluate")
    parser.set_defaults(runs=1)
    parser.add_argument("--images", type=int, nargs="+", default=[200])
    parser.add_argument("--classes", type=int, default=1203)
    parser.add_argument("--detections", type=int, default=300, help="of an image, on average")
    parser.add_argument("--pixels", type=int, default=480, help="height and width of an image")
    parser.add_argument("--ours-only", action="store_true", help="leave out lvis-api")
    args = parser.parse_args()
    rows = []
    for images in args.images:
        with tempfile.TemporaryDirectory() as folder:
            sizes = images, args.classes, args.detections, args.pixels
            count, paths = files(Path(folder), *sizes, args.seed)
            row = measure(paths, args.runs, args.ours_only)
        rows.append({"images": images, "classes": args.classes, "detections": count, **row})
    measuring.report(
        args,
        "evaluate",
        "Scoring masks and boxes: lvis-api and ours",
        rows,
        "CPU time from the files to the metrics, memory with all that is imported; every metric "
        "and every class's AP equal to 1e-9.",
    )


if __name__ == "__main__":
    main()
