"""Masks of one image to run lengths: ours against mmdet's paste with pycocotools, side by side.

``python tests/benchmarks/bench_masks.py`` prints medians of the CPU time and the peaks of memory
for three sizes of images; ``--sizes 640x480 --masks 100 --outlines ragged`` chooses others,
``--json FILE`` keeps the numbers with the machine. The run lengths of both are compared each time.
"""

import argparse
import ctypes
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import gol.models  # noqa: F401  (makes mmdet importable)
from gol.models.run_lengths import encode

SIDE = 28  # rows and columns of a mask head's masks


def inputs(seed: int, count: int, size: tuple[int, int], outlines: str) -> tuple:
    """Logits (count, 1, 28, 28) and boxes (count, 4) whose sides are spread as in LVIS."""
    rng = np.random.default_rng(seed)
    grid = np.linspace(-1, 1, SIDE)
    middle, radius = rng.uniform(-0.2, 0.2, (count, 2, 1)), rng.uniform(0.6, 1, (count, 2, 1))
    x, y = (((grid - middle[:, i]) / radius[:, i]) ** 2 for i in (0, 1))
    waves = torch.from_numpy(rng.normal(0, 1.5, (count, 1, 6, 6)))
    waves = torch.nn.functional.interpolate(waves, (SIDE, SIDE), mode="bicubic").numpy()
    logits = 6 * (1 - x[:, None, None, :] - y[:, None, :, None]) + waves
    if outlines == "ragged":  # of a detector that has hardly learned
        logits = rng.normal(0, 3, logits.shape)
    sides = np.exp(rng.normal(-2, 0.9, (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) - sides / 2
    boxes = np.clip(np.concatenate([corners, corners + sides], 1), 0, 1) * (size[::-1] * 2)
    return logits.astype(np.float32), boxes.astype(np.float32), size


def ours(logits: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> list[dict]:
    return encode(torch.from_numpy(logits[:, 0]).sigmoid().numpy(), boxes, size)


def theirs(logits: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> list[dict]:
    from mmcv import Config
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead
    from pycocotools import mask as coco_mask

    head = FCNMaskHead(num_convs=0, num_classes=1)
    cfg, labels = Config({"mask_thr_binary": 0.5}), torch.zeros(len(boxes), dtype=torch.long)
    arrays = torch.from_numpy(logits), torch.from_numpy(boxes), labels
    (masks,) = head.get_seg_masks(*arrays, cfg, size, torch.ones(4), True)
    found = [coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8)) for mask in masks]
    return [{**rle, "counts": rle["counts"].decode()} for rle in found]


def measured(engine: Callable, case: tuple) -> tuple[list[dict], float, float]:
    """The run lengths, the CPU seconds that they took and the MB of memory at the peak."""
    ctypes.CDLL(None).malloc_trim(0)  # gives back what is free
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak until now
    before, begin = memory("VmRSS"), time.process_time()
    result = engine(*case)
    return result, time.process_time() - begin, memory("VmHWM") - before


def memory(field: str) -> float:
    """MB that Linux says of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def measure(case: tuple, rounds: int) -> dict:
    """Medians of both, interleaved; asserts that they find the same."""
    logits, boxes, size = case
    runs: dict[Callable, list[tuple[float, float]]] = {ours: [], theirs: []}
    for engine in runs:
        engine(logits[:2], boxes[:2], size)  # loads what it needs
    for _ in range(rounds):
        results = []
        for engine, numbers in runs.items():
            found, *seconds_and_memory = measured(engine, case)
            results.append(found)
            numbers.append(seconds_and_memory)
        differ = sum(one != other for one, other in zip(*results, strict=True))
        assert not differ, f"{differ} of {len(boxes)} masks differ"
    medians = [np.median(numbers, 0).tolist() for numbers in runs.values()]
    (seconds, memories) = zip(*medians, strict=True)
    return {"seconds": seconds, "ratio": seconds[1] / seconds[0], "memory_mb": memories}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1920x1080", "3840x2160"])
    parser.add_argument("--masks", type=int, default=300)
    parser.add_argument("--outlines", choices=["smooth", "ragged"], default="smooth")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=int(np.random.default_rng().integers(10**9)))
    parser.add_argument("--json", type=Path, help="file to keep the numbers in")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(f"seed {args.seed}: {args.masks} masks, {args.outlines} outlines; CPU ms, MB")
    print("image        ours ms  mmdet ms  ratio  ours MB  mmdet MB  identical")
    rows = {}
    for text in args.sizes:
        width, height = map(int, text.split("x"))
        row = measure(inputs(args.seed, args.masks, (height, width), args.outlines), args.rounds)
        (fast, slow), (little, much) = row["seconds"], row["memory_mb"]
        print(
            f"{text:11} {fast * 1e3:8.1f} {slow * 1e3:9.1f} {row['ratio']:6.1f} "
            f"{little:8.0f} {much:9.0f}        all",
            flush=True,
        )
        rows[text] = row
    if args.json:
        machine = {"processor": platform.machine(), "cores": os.cpu_count()}
        settings = {"seed": args.seed, "masks": args.masks, "outlines": args.outlines}
        args.json.write_text(json.dumps({**machine, **settings, "images": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
