"""What only a GPU can show: `make gpu-check`, or `python tests/gpu/check.py --out FOLDER`.

Sections, each of which may be asked for alone with ``--only``:

- ``health``: the check of a GPU at the start of a job, and how long it takes;
- ``operators``: NMS and RoIAlign on the device against the CPU;
- ``detections``: an image's detections against mmdet's, and how often each waits for the device;
- ``losses``: every activation and loss under bfloat16 and float16 autocast, against float64;
- ``energy``: what matrix products take by NVML, in watts;
- ``speed``: images a second and memory of Mask R-CNN R-50 with 1,203 classes at 800 x 1333,
  beside the goals;
- ``demo``: the demo's experiments over several seeds, with the table of all;
- ``amp``: Gumbel on the demo in bfloat16, with channels-last too, and float16, beside float32
  of the section before;
- ``ranks``: the same losses with two processes as with one, where there are two GPUs.

It needs torch with torchvision and this project's packages, compiled operators are not needed.
``results.json`` and ``results.md`` are written after every section; what was trained is kept in
the folder, so that a run that was cut off goes on. With ``--device cpu`` all but the numbers is the
same, which is how it is tested.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # a checkout that is not installed

import demo_runs
import numerics
import power
import speed

from gol.files import read_json, write_json, write_text

SECTIONS: dict[str, Callable[[argparse.Namespace], Any]] = {
    "health": numerics.health,
    "operators": numerics.operators,
    "detections": numerics.detections,
    "losses": numerics.losses,
    "energy": power.energy,
    "speed": speed.speed,
    "demo": demo_runs.demo,
    "amp": demo_runs.amp,
    "ranks": demo_runs.ranks,
}


def main() -> int:
    """Runs the sections; returns 1 if a check failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("results/gpu-check"))
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=5, help="demo trainings at once on the device")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: does it run at all?")
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        print("gpu-check: error: no CUDA GPU; --device cpu --quick only tests it", file=sys.stderr)
        return 2
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    path = args.out / "results.json"
    results = read_json(path) if path.exists() else {}
    results["machine"] = machine(args.device)
    failed = []
    for name in args.only:
        print(f"gpu-check: {name}", file=sys.stderr, flush=True)
        results[name] = SECTIONS[name](args)
        failed += [f"{name}: {text}" for text in results[name].get("failed", [])]
        write_json(path, results, indent=1)
        write_text(args.out / "results.md", as_markdown(results))
    print(as_markdown(results))
    for text in failed:
        print(f"gpu-check: failed: {text}", file=sys.stderr)
    return 1 if failed else 0


def machine(device: str) -> dict[str, Any]:
    """What the numbers were measured on."""
    git = ["git", "rev-parse", "--short", "HEAD"]
    found = subprocess.run(git, capture_output=True, text=True) if shutil.which("git") else None
    return {
        "device": torch.cuda.get_device_name() if device != "cpu" else "cpu",
        "gpus": torch.cuda.device_count(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "commit": (found.stdout.strip() if found else "") or "unknown",
    }


def as_markdown(results: dict[str, Any]) -> str:
    """The results as sections of aligned lines."""
    parts = ["# GPU check", ", ".join(f"{k}: {v}" for k, v in results["machine"].items())]
    for name in SECTIONS:
        if name in results:
            parts += [f"## {name}", *results[name]["lines"]]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    sys.exit(main())
