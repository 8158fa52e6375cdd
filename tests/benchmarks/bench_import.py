"""CPU seconds until a command of this project is at work, with and without ``gol.compat.deferred``.

Each command runs in fresh processes, the two sides in turn; it prints the median of ``--runs``
(user and system time). Training and detection take one epoch of 32 images of the demo.

    python tests/benchmarks/bench_import.py
"""

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from gol.cli import main as gol

EAGER = (
    "import contextlib, gol.compat.deferred as d;"
    "d.UNUSED = (); d.no_compiler = contextlib.nullcontext;"
)
LIGHT = ("gol --help", "gol experiments", "import torch")  # import nothing that is deferred
SIDES = ("eager", "deferred")
VERB = "import sys; from gol.cli import main; sys.exit(main({}))"


def cpu_seconds(code: str) -> float:
    """CPU seconds of a process that runs the code."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def prepare(folder: Path) -> dict[str, str]:
    """Draws a demo and trains it once; returns what is measured, name to code."""
    from gol.config.datasets import load_dataset
    from gol.data.demo.draw import draw_demo
    from gol.data.preprocess import preprocess_dataset

    data, fresh, done = folder / "data", folder / "fresh", folder / "done"
    draw_demo(data / "raw", train_images=32, val_images=24)
    files = [f for split in ("train", "val") for f in load_dataset("demo").files(split, data)]
    preprocess_dataset(*files, data)
    settings = ["--set", "runner.max_epochs=1"]
    gol(["config", "demo/gol", "--data", str(data), "--run", str(fresh), *settings])
    shutil.copytree(fresh, done)
    gol(["train", str(done), "--device", "cpu"])
    train = ["train", str(folder / "run"), "--device", "cpu"]
    detect = ["detect", str(done), "--out", str(folder / "d.json"), "--device", "cpu"]
    again = f"import shutil; shutil.rmtree({str(folder / 'run')!r}, ignore_errors=True);"
    again += f"shutil.copytree({str(fresh)!r}, {str(folder / 'run')!r});"
    return {
        "gol --help": "import sys; sys.argv[1:] = ['--help']; import gol.__main__",
        "gol experiments": VERB.format(["experiments"]),
        "import torch": "import torch",
        "import gol.models": "import gol.models",
        "gol train": again + VERB.format(train),
        "gol detect": VERB.format(detect),
    }


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cases = prepare(Path(folder))
        times: dict[tuple[str, str], list[float]] = {}
        for _ in range(args.runs):
            for name, code in cases.items():
                times.setdefault((name, "deferred"), []).append(cpu_seconds(code))
                if name not in LIGHT:
                    times.setdefault((name, "eager"), []).append(cpu_seconds(EAGER + code))
    print("CPU s              eager  deferred")
    for name in cases:
        medians = {side: statistics.median(times.get((name, side), [0])) for side in SIDES}
        eager = f"{medians['eager']:5.2f}" if name not in LIGHT else "    -"
        print(f"{name:<17}  {eager}  {medians['deferred']:8.2f}")


if __name__ == "__main__":
    main()
