"""Masks of one image to run lengths: ours against mmdet's paste with pycocotools, side by side.

``python tests/benchmarks/bench_masks.py`` prints medians of the CPU time and the peaks of memory
for three sizes of images; ``--sizes 640x480 --masks 100 --outlines ragged`` chooses others. The run
lengths of both are compared each time.
"""

from functools import partial

import measuring
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


def seconds(case: tuple, runs: int) -> list[float]:
    """Median CPU seconds of mmdet's way and ours; asserts that they find the same."""
    logits, boxes, size = case
    for engine in (theirs, ours):
        engine(logits[:2], boxes[:2], size)  # loads what it needs
    return measuring.in_turns([partial(theirs, *case), partial(ours, *case)], list.__eq__, runs)


def measure(case: tuple, runs: int) -> dict[str, float]:
    """Medians and peaks of both."""
    slow, fast = seconds(case, runs)
    much, little = (measuring.peak(partial(engine, *case)) for engine in (theirs, ours))
    times = {"mmdet ms": 1e3 * slow, "gol ms": 1e3 * fast, "times faster": slow / fast}
    return times | {"mmdet MB": much, "gol MB": little}


def main() -> None:
    """Prints the table."""
    parser = measuring.arguments(__doc__, "masks")
    parser.add_argument("--sizes", nargs="+", default=["640x480", "1920x1080", "3840x2160"])
    parser.add_argument("--masks", type=int, default=300)
    parser.add_argument("--outlines", choices=["smooth", "ragged"], default="smooth")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rows = []
    for text in args.sizes:
        width, height = map(int, text.split("x"))
        case = inputs(args.seed, args.masks, (height, width), args.outlines)
        rows.append({"image": text, "masks": args.masks, **measure(case, args.runs)})
    measuring.report(
        args,
        "masks",
        "Masks of an image to run lengths: mmdet's paste with pycocotools and ours",
        rows,
        f"Medians of CPU time, {args.outlines} outlines; run lengths identical in every turn.",
    )


if __name__ == "__main__":
    main()
