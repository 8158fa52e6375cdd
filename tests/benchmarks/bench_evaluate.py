"""CPU time and memory of our evaluation against lvis-api's, on the same random files.

Each engine runs alone in a fresh process, from the JSON files to the metrics of masks and boxes;
then the numbers are compared. ``python tests/benchmarks/bench_evaluate.py --images 1000
--classes 1203`` is a set with LVIS's number of classes; the defaults resemble the demo.
"""

import argparse
import json
import multiprocessing
import re
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

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


def measure(engine, paths: tuple[Path, Path]) -> tuple[dict, float, float]:
    """Metrics, CPU seconds and the peak of resident memory in MB."""
    if engine is theirs:  # importing it, and matplotlib with it, is not timed
        import lvis  # noqa: F401

    start = time.process_time()
    metrics = engine(*paths)
    seconds = time.process_time() - start
    # Not getrusage's, which a process takes over from the one that started it.
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]
    return metrics, seconds, int(peak) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=250)
    parser.add_argument("--classes", type=int, default=40)
    parser.add_argument("--detections", type=int, default=25_000)
    parser.add_argument("--pixels", type=int, default=96, help="height and width of an image")
    parser.add_argument("--seed", type=int, default=int(np.random.default_rng().integers(10**9)))
    parser.add_argument("--ours-only", action="store_true", help="leave out lvis-api")
    args = parser.parse_args()

    rng = np.random.default_rng(args.seed)
    size = (args.pixels, args.pixels + 1)
    dataset = random_dataset(rng, args.images, args.classes, size)
    per_image = args.detections // args.images
    found = random_detections(rng, dataset, false_positives=per_image, crowded=0)
    print(
        f"seed {args.seed}: {args.images} images, {args.classes} classes, {len(found)} detections"
    )
    engines = {"gol.evaluation.lvis": ours} | ({} if args.ours_only else {"lvis-api": theirs})
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), dataset, found)
        for name, engine in engines.items():
            context = multiprocessing.get_context("spawn")
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                results[name] = pool.submit(measure, engine, paths).result()
            print(f"{name:>12}: {results[name][1]:8.2f} s {results[name][2]:8.0f} MB")
    if not args.ours_only:
        (first, fast, _), (second, slow, _) = results.values()
        differences = [
            0.0 if first[kind][key] == value else abs(first[kind][key] - value)
            for kind in IOU_TYPES
            for key, value in second[kind].items()
        ]
        print(f"       ratio: {slow / fast:8.1f} x, largest difference {max(differences):.1e}")


if __name__ == "__main__":
    main()
