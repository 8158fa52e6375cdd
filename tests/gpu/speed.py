"""Throughput and memory of the paper's detector at the paper's image size."""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from bench_training import Step

_RATE = 23  # images/s of an A100 in NVIDIA's DeepLearningExamples (PyTorch, Mask R-CNN R-50, AMP)
_RATIO = 1.5  # of autocast with channels-last to float32
_PRECISIONS = ("float32", "float32, TF32", "bfloat16", "float16", "bfloat16_channels_last")


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Training steps in float32 (TF32 off and on), under autocast, and channels-last."""
    rows = {name: measure(args, name) for name in _PRECISIONS}
    lines = ["| Mask R-CNN R-50, 1,203 classes, training | images/s | GB | loss |"]
    lines.append("| --- | --- | --- | --- |")
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['images_per_second']:.1f} | {row['gigabytes']:.1f} "
            f"| {row['loss']:.3f} |"
        )
    failed = [name for name, row in rows.items() if not np.isfinite(row["loss"])]
    return {"lines": ["\n".join(lines), goals(rows)], "failed": failed, "rows": rows}


def goals(rows: dict[str, dict[str, float]]) -> str:
    """What was hoped for beside what was found; another card may miss the first: no failure."""
    slow, fast = (rows[name]["images_per_second"] for name in (_PRECISIONS[0], _PRECISIONS[-1]))
    found = {
        f"{_RATE} images/s on a card like an A100": (fast, _RATE),
        f"bfloat16 with channels-last {_RATIO} times as fast as float32": (fast / slow, _RATIO),
    }
    return "\n".join(
        f"- goal: {text}: {value:.2f}, {'met' if value >= wanted else 'missed'}"
        for text, (value, wanted) in found.items()
    )


def measure(args: argparse.Namespace, name: str) -> dict[str, float]:
    """Images a second, peak memory and last loss of training steps on one made-up batch."""
    size, warm, steps = ((1, 64, 96), 1, 1) if args.quick else ((4, 800, 1344), 5, 20)
    name, _, tf32 = name.partition(", ")
    allowed = bool(tf32) or name != "float32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    step, place = Step(name, size, args.device), torch.device(args.device).type
    if place == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for _ in range(warm):
        step()
    _wait(place)
    begin = time.perf_counter()
    for _ in range(steps):
        loss = step()
    _wait(place)
    seconds = time.perf_counter() - begin
    memory = torch.cuda.max_memory_allocated() if place == "cuda" else 0
    return {
        "images_per_second": size[0] * steps / seconds,
        "gigabytes": memory / 1e9,
        "loss": float(loss),
    }


def _wait(place: str) -> None:
    if place == "cuda":
        torch.cuda.synchronize()
