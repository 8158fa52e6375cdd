"""Time and memory of choosing an image's detections against mmdet's, on the same random outputs.

``BBoxHead.get_bboxes`` and ours run in turns, from the logits to the detections, and every result
is compared to the last bit, but for the order of equal scores, which is the processor's own in
mmdet. Memory is that of one call in a fresh process, above what was resident before.

``python tests/benchmarks/bench_nms.py`` measures LVIS's size, then what it grows with, then small
inputs; ``--case 1000x1203 --background 8`` one size alone.
"""

import argparse
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import measuring
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
    """A row of the table."""
    proposals, classes, _, agnostic = case
    with torch.inference_mode():
        pair, candidates = functions(case, args)
        found = len(pair[0]()[0])
        theirs, ours = measuring.in_turns(pair, same, args.runs, args.seconds)
    row = {
        "proposals": proposals,
        "classes": classes,
        "boxes": "one a proposal" if agnostic else "one a class",
        "candidates": candidates,
        "found": found,
        "mmdet ms": 1e3 * theirs,
        "gol ms": 1e3 * ours,
        "times faster": theirs / ours,
    }
    if proposals * classes > _MEASURABLE:
        theirs, ours = (measuring.fresh(peak, case, args, place) for place in (0, 1))
        row |= {"mmdet MB": theirs, "gol MB": ours, "times smaller": theirs / ours}
    return row


def peak(case: tuple, args: argparse.Namespace, place: int) -> float:
    """MB of one call above what was resident before."""
    torch.set_num_threads(args.threads)
    small = (250, 160, 0.0, case[3])
    with torch.inference_mode():
        functions(small, args)[0][place]()  # what is loaded and allocated once
        return measuring.peak(functions(case, args)[0][place])


def main() -> None:
    """Measures and prints the table."""
    parser = measuring.arguments(__doc__, "nms")
    parser.add_argument("--case", help="proposals x classes, such as 1000x1203, alone")
    parser.add_argument("--background", type=float, default=8.0, help="with --case: its logit")
    parser.add_argument("--agnostic", action="store_true", help="with --case: one box a proposal")
    parser.add_argument("--detections", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=1.0, help="turns go on for so long")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cases = CASES
    if args.case:
        proposals, classes = map(int, args.case.split("x"))
        cases = [(proposals, classes, args.background, args.agnostic)]
    measuring.report(
        args,
        "nms",
        "Choosing an image's detections: mmdet's `get_bboxes` and ours",
        [measure(case, args) for case in cases],
        "Medians of CPU time; detections equal to the last bit in every turn.",
    )


if __name__ == "__main__":
    main()
