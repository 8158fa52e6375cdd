"""The losses at LVIS's size beside mmdet's cross entropy, turn by turn: milliseconds and shares.

Run it with ``python tests/benchmarks/bench_losses.py``. It prints, of forward and backward at 2048
RoIs and 1203 classes, the least and the median milliseconds of each classifier of
``configs/axes.yaml``, the ratio of its median to that of mmdet's ``CrossEntropyLoss`` (softmax),
and with ``--step``, which takes minutes, its share of a training step of the paper's Mask R-CNN
R-50 on four images of 1333 x 800.
"""

import statistics
import time
from typing import Any

import measuring
import torch
from torch import Tensor, nn

import gol.models  # noqa: F401  (registers the losses)
from gol.config.axes import axis_values
from gol.losses import LOSSES

ROIS, CLASSES = 2048, 1203


def build(entry: dict[str, Any]) -> nn.Module:
    """A classifier's loss, with the class statistics of LVIS v1."""
    from mmdet.models.builder import build_loss

    lvis = {"num_classes": CLASSES} if entry["type"] in LOSSES else {}
    if entry["type"] in ("EQL", "DropLoss"):
        lvis |= {"version": "v1", "lambda_": 0.0011}
    return build_loss({**entry, **lvis})


def milliseconds(loss: nn.Module, labels: Tensor) -> float:
    """Of one forward and backward, with fresh logits."""
    channels = CLASSES + 1
    if getattr(loss, "custom_cls_channels", False):
        channels = loss.get_cls_channels(CLASSES)
    logits = (torch.randn(ROIS, channels) - 4).requires_grad_()
    begin = time.perf_counter()
    loss(logits, labels, torch.ones(ROIS), avg_factor=ROIS).backward()
    end = time.perf_counter()
    assert torch.isfinite(logits.grad).all()
    return (end - begin) * 1e3


def step_milliseconds() -> float:
    """Of one training step with mmdet's loss, the faster of two."""
    import gol

    config = gol.load_experiment("activations/r50_4x4_1x", {"gol.weights": None})
    detector = gol.build_detector(config).train()
    shape = (800, 1344, 3)
    metas = [{"img_shape": shape, "pad_shape": shape, "ori_shape": shape, "scale_factor": 1.0}] * 4
    corners = torch.rand(4, 12, 2) * 600
    boxes = torch.cat([corners, corners + 40 + torch.rand(4, 12, 2) * 150], 2)
    from mmdet.core import BitmapMasks

    masks = [BitmapMasks([torch.ones(800, 1344).byte().numpy()] * 12, 800, 1344)] * 4
    labels, times = list(torch.randint(CLASSES, (4, 12))), []
    for _ in range(2):
        begin = time.perf_counter()
        images = torch.randn(4, 3, 800, 1344)
        losses = detector.forward_train(images, metas, list(boxes), labels, gt_masks=masks)
        values = [
            v for part in losses.values() for v in (part if isinstance(part, list) else [part])
        ]
        sum(value.mean() for value in values if value.requires_grad).backward()
        times.append((time.perf_counter() - begin) * 1e3)
    return min(times)


def main() -> None:
    """Prints the table."""
    parser = measuring.arguments(__doc__, "losses")
    parser.set_defaults(runs=9, threads=2)
    parser.add_argument("--step", action="store_true", help="time a training step, too")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    labels = torch.randint(CLASSES, (ROIS,))
    labels[ROIS // 4 :] = CLASSES  # a quarter foreground, as sampled
    losses = {name: build(value["loss"]) for name, value in axis_values("classifier").items()}
    times: dict[str, list[float]] = {name: [] for name in losses}
    for _ in range(args.runs):  # turn by turn, so that all see the same machine
        for name, loss in losses.items():
            times[name].append(milliseconds(loss, labels))
    step = step_milliseconds() if args.step else None
    base, rows = statistics.median(times["softmax"]), []
    for name, found in times.items():
        middle = statistics.median(found)
        row = {"classifier": name, "least ms": min(found), "median ms": middle}
        row["of softmax"] = middle / base
        rows.append(row | ({"% of a step": 100 * middle / step} if step else {}))
    note = f"Forward and backward at {ROIS:,} RoIs and {CLASSES:,} classes, wall clock."
    if step:
        note += f" A training step takes {step / 1e3:.1f} s."
    measuring.report(args, "losses", "The losses beside mmdet's cross entropy", rows, note)


if __name__ == "__main__":
    main()
