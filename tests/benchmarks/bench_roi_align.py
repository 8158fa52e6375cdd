"""RoIAlign on the CPU: the two matrix products against torchvision's kernel, side by side.

Run it with ``python tests/benchmarks/bench_roi_align.py``; it prints milliseconds forward and
backward and their ratio, the best of several runs each.
"""

import argparse
import time

import torch

import gol.models  # noqa: F401  (installs the operator)
from gol.compat import roi_align

CASES = [  # channels, height and width of the map, RoIs, bins
    (64, 24, 256, 7),
    (64, 24, 64, 14),
    (256, 32, 512, 7),
    (64, 64, 256, 7),
    (64, 128, 256, 7),
    (64, 200, 256, 7),
]


def best_time(channels: int, size: int, rois: int, bins: int, runs: int) -> float:
    """Least milliseconds of forward and backward over a batch of 8 images."""
    from mmcv.ops import RoIAlign

    generator = torch.Generator().manual_seed(0)
    features = torch.randn(8, channels, size, size, generator=generator, requires_grad=True)
    corners = torch.rand(rois, 2, generator=generator) * size * 3
    extents = torch.rand(rois, 2, generator=generator) * size + 8
    images = torch.randint(8, (rois, 1), generator=generator).float()
    boxes = torch.cat([images, corners, corners + extents], 1)
    operator, times = RoIAlign(bins, 0.25, 2), []
    for _ in range(runs):
        features.grad = None
        begin = time.perf_counter()
        operator(features, boxes).sum().backward()
        times.append(time.perf_counter() - begin)
    return min(times) * 1e3


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print("channels  map      RoIs  bins  torchvision ms  products ms  ratio")
    for case in CASES:
        times = []
        for cells in (0, 10**9):
            roi_align.MAX_MAP_CELLS = cells
            times.append(best_time(*case, args.runs))
        channels, size, rois, bins = case
        print(
            f"{channels:8}  {size}x{size:<5}  {rois:4}  {bins:4}  "
            f"{times[0]:14.1f}  {times[1]:11.1f}  {times[0] / times[1]:5.1f}"
        )


if __name__ == "__main__":
    main()
