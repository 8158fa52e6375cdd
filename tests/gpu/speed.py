"""Throughput and memory of the paper's detector at the paper's image size."""

import argparse
import time
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from mmdet.core.mask import BitmapMasks

import gol
from gol.models import float32_heads

NAME = "activations/gumbel/gumbel_r50_4x4_1x"


def speed(args: argparse.Namespace) -> dict[str, Any]:
    """Training steps in float32 (TF32 off and on), under autocast, and channels-last."""
    cases = {
        "float32": (None, False, False),
        "float32, TF32": (None, True, False),
        "bfloat16": (torch.bfloat16, True, False),
        "float16": (torch.float16, True, False),
        "bfloat16, channels-last": (torch.bfloat16, True, True),
    }
    rows = {name: measure(args, *case) for name, case in cases.items()}
    lines = ["| Mask R-CNN R-50, 1,203 classes, training | images/s | GB | loss |"]
    lines.append("| --- | --- | --- | --- |")
    for name, row in rows.items():
        lines.append(
            f"| {name} | {row['images_per_second']:.1f} | {row['gigabytes']:.1f} "
            f"| {row['loss']:.3f} |"
        )
    failed = [name for name, row in rows.items() if not np.isfinite(row["loss"])]
    return {"lines": ["\n".join(lines)], "failed": failed, "rows": rows}


def measure(
    args: argparse.Namespace, dtype: torch.dtype | None, tf32: bool, channels_last: bool
) -> dict[str, float]:
    """Images a second, peak memory and last loss of training steps on one made-up batch."""
    batch, height, width, warm, steps = (1, 64, 96, 1, 1) if args.quick else (4, 800, 1344, 5, 20)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    config = gol.load_experiment(NAME, {"precision": "float32"})
    config.model.backbone.init_cfg = config.gol.weights = None
    detector = gol.build_detector(config).to(args.device).train()
    if dtype:
        float32_heads(detector)
    if channels_last:
        detector = detector.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(detector.parameters(), lr=1e-4, momentum=0.9)
    scaler = torch.amp.GradScaler(enabled=dtype == torch.float16 and args.device != "cpu")
    data = made_up(batch, height, width, args.device, channels_last)
    place = torch.device(args.device).type
    if place == "cuda":
        torch.cuda.reset_peak_memory_stats()
    for step in range(warm + steps):
        if step == warm:
            _wait(place)
            begin = time.perf_counter()
        with torch.autocast(place, dtype) if dtype else nullcontext():
            output = detector.train_step(data, optimizer)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(output["loss"]).backward()
        scaler.step(optimizer)
        scaler.update()
    _wait(place)
    seconds = time.perf_counter() - begin
    memory = torch.cuda.max_memory_allocated() if place == "cuda" else 0
    return {
        "images_per_second": batch * steps / seconds,
        "gigabytes": memory / 1e9,
        "loss": float(output["loss"].detach()),
    }


def _wait(place: str) -> None:
    if place == "cuda":
        torch.cuda.synchronize()


def made_up(batch: int, height: int, width: int, device: str, channels_last: bool) -> dict:
    """A batch as mmdet's pipeline makes it: 12 objects an image, LVIS's mean in train."""
    rng = np.random.default_rng(0)
    images = torch.randn(batch, 3, height, width, device=device)
    if channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    shape = (height, width, 3)
    meta = {"img_shape": shape, "ori_shape": shape, "pad_shape": shape, "flip": False}
    meta |= {"scale_factor": np.ones(4, np.float32), "filename": "none", "img_norm_cfg": {}}
    boxes, labels, masks = [], [], []
    for _ in range(batch):
        corner = rng.uniform(0, 0.6, (12, 2)) * (width, height)
        extent = rng.uniform(0.1, 0.4, (12, 2)) * (width, height)
        box = np.concatenate([corner, corner + extent], 1).astype(np.float32)
        mask = np.zeros((12, height, width), np.uint8)
        for index, (x1, y1, x2, y2) in enumerate(box.astype(int)):
            mask[index, y1:y2, x1:x2] = 1
        boxes.append(torch.from_numpy(box).to(device))
        labels.append(torch.from_numpy(rng.integers(0, 1203, 12)).to(device))
        masks.append(BitmapMasks(mask, height, width))
    return {
        "img": images,
        "img_metas": [meta] * batch,
        "gt_bboxes": boxes,
        "gt_labels": labels,
        "gt_masks": masks,
    }
