"""Time and memory of choosing an image's detections against mmdet's, on the same random outputs.

``BBoxHead.get_bboxes`` and ours run in turns, from the logits to the detections, and every result
is compared to the last bit, but for the order of equal scores, which is the processor's own in
mmdet. Memory is that of one call in a fresh process, above what was resident before.

``python tests/benchmarks/bench_nms.py`` measures LVIS's size, then what it grows with, then small
inputs; ``--case 1000x1203 --background 8`` one size alone. ``--out FOLDER`` writes ``nms.md`` and
``nms.json``.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import gol.models  # noqa: F401  (installs the operators)

SHAPE, SCALE = (800, 1333, 3), np.full(4, 2.083, np.float32)
_MEASURABLE = 250_000  # scores from which on memory is more than what an allocator keeps
# proposals, classes, logit of the background (the larger, the fewer candidates), class-agnostic
CASES = [
    (1000, 1203, 8.0, False),
    (1000, 1203, 8.0, True),
    (1000, 1203, 10.0, False),
    (1000, 1203, 14.0, False),
    (2000, 1203, 8.0, False),
    (1000, 300, 6.5, False),
    (1000, 80, 4.0, False),
    (1000, 80, 12.5, False),
    (1000, 80, 12.5, True),
    (256, 40, 2.0, False),
    (256, 40, 12.5, False),
    (5, 40, 2.0, False),
]


def functions(
    case: tuple, args: argparse.Namespace, device: str = "cpu"
) -> tuple[list[Callable], int]:
    """mmdet's way and ours on one random image, and the number of candidates."""
    from mmcv import ConfigDict

    from gol.models.postprocess import BBoxHead, set_postprocessing

    proposals, classes, background, agnostic = case
    generator = torch.Generator().manual_seed(args.seed)
    height, width = SHAPE[:2]
    centre = torch.rand(proposals, 2, generator=generator) * torch.tensor([width, height])
    half = 150 * torch.rand(proposals, 2, generator=generator) + 4
    limit = torch.tensor([width, height, width, height])
    boxes = torch.minimum(torch.cat([centre - half, centre + half], 1).clamp(min=0), limit)
    logits = 1.5 * torch.randn(proposals, classes + 1, generator=generator)
    logits[:, -1] += background
    groups = 1 if agnostic else classes
    deltas = torch.randn(proposals, 4 * groups, generator=generator)
    rois = torch.cat([torch.zeros(proposals, 1), boxes], 1)
    outputs = [part.to(device) for part in (rois, logits, deltas)]
    nms = {"type": "nms", "iou_threshold": 0.5}
    cfg = ConfigDict(score_thr=1e-4, nms=nms, max_per_img=args.detections)
    head = BBoxHead(in_channels=1, num_classes=classes, reg_class_agnostic=agnostic)
    theirs = head.get_bboxes
    set_postprocessing(SimpleNamespace(roi_head=SimpleNamespace(bbox_head=head)))
    candidates = int((logits.softmax(1)[:, :-1] > cfg.score_thr).sum())
    pair = (theirs, head.get_bboxes)
    return [lambda f=f: f(*outputs, SHAPE, SCALE, True, cfg) for f in pair], candidates


def same(one: tuple, other: tuple) -> bool:
    """Whether detections are equal, rows of equal scores in any order."""

    def rows(result: tuple) -> np.ndarray:
        table = torch.cat([result[0], result[1][:, None].float()], 1).cpu().numpy()
        return table[np.lexsort((*table.T[:4], table[:, 5], -table[:, 4]))]

    return np.array_equal(rows(one), rows(other))


def measure(case: tuple, args: argparse.Namespace) -> dict[str, Any]:
    """Median CPU milliseconds of both, in turns, each result compared."""
    (theirs, ours), candidates = functions(case, args)
    times: list[list[float]] = [[], []]
    # A small input takes many turns, a large one as many as were asked for.
    expected, stop = theirs(), time.perf_counter() + args.seconds
    while len(times[0]) < args.runs or time.perf_counter() < stop:
        for place, call in enumerate((theirs, ours)):
            begin = time.process_time()
            found = call()
            times[place].append(1e3 * (time.process_time() - begin))
            assert same(expected, found), f"{case}: other detections"
    proposals, classes, _, agnostic = case
    mmdet_ms, gol_ms = map(statistics.median, times)
    row = {"proposals": proposals, "classes": classes, "class_agnostic": agnostic}
    row |= {"candidates": candidates, "detections": len(expected[0]), "turns": len(times[0])}
    return row | {"mmdet_ms": mmdet_ms, "gol_ms": gol_ms, "time_ratio": mmdet_ms / gol_ms}


def peak(case: tuple, args: argparse.Namespace, place: int) -> float:
    """MB of one call above what was resident before, in a fresh process."""
    torch.set_num_threads(args.threads)
    small = (250, 160, 0.0, case[3])
    with torch.inference_mode():
        functions(small, args)[0][place]()  # what is loaded and allocated once
        call = functions(case, args)[0][place]
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
        call()
    return _status("VmHWM") - before


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def as_markdown(rows: list[dict[str, Any]], machine: str) -> str:
    """The table."""
    lines = [
        "# Choosing an image's detections: mmdet's `get_bboxes` and ours, in turns",
        f"{machine}. Medians of CPU time; detections equal to the last bit in every turn.",
        "| proposals x classes | boxes | candidates | found | mmdet ms | gol ms | ratio "
        "| mmdet MB | gol MB | ratio |\n|" + " --- |" * 10,
    ]
    for row in rows:
        boxes = "one a proposal" if row["class_agnostic"] else "one a class"
        cells = "– | – | –"
        if "gol_mb" in row:
            ratio = row["mmdet_mb"] / row["gol_mb"]
            cells = f"{row['mmdet_mb']:.1f} | {row['gol_mb']:.1f} | {ratio:.1f}"
        lines[-1] += (
            f"\n| {row['proposals']:,} x {row['classes']:,} | {boxes} | {row['candidates']:,} "
            f"| {row['detections']} | {row['mmdet_ms']:,.2f} | {row['gol_ms']:.2f} "
            f"| {row['time_ratio']:.1f} | {cells} |"
        )
    return "\n\n".join(lines) + "\n"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", help="proposals x classes, such as 1000x1203, alone")
    parser.add_argument("--background", type=float, default=8.0, help="with --case: its logit")
    parser.add_argument("--agnostic", action="store_true", help="with --case: one box a proposal")
    parser.add_argument("--detections", type=int, default=300)
    parser.add_argument("--runs", type=int, default=5, help="turns at least")
    parser.add_argument("--seconds", type=float, default=1.0, help="turns go on for so long")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for nms.md and nms.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = CASES
    if args.case:
        proposals, classes = map(int, args.case.split("x"))
        cases = [(proposals, classes, args.background, args.agnostic)]
    rows, context = [], multiprocessing.get_context("spawn")
    for case in cases:
        with torch.inference_mode():
            row = measure(case, args)
        names = ("mmdet_mb", "gol_mb") if case[0] * case[1] > _MEASURABLE else ()
        for place, name in enumerate(names):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                row[name] = pool.submit(peak, case, args, place).result()
        rows.append(row)
        print(json.dumps(row), flush=True)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {args.threads} thread(s), "
    machine += f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    text = as_markdown(rows, machine)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "nms.md").write_text(text)
        (args.out / "nms.json").write_text(json.dumps({"machine": machine, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
