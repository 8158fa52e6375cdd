"""Time of a training step of Mask R-CNN R-50 with 1,203 classes in each precision, in turns.

All begin with the same weights, batch and random numbers, so the first losses must agree: to 1e-5
in float32, to 2 % in bfloat16. By default at a size that takes less than a minute of CPU time;
``--size 1x800x1344 --turns 1`` is the paper's. ``--out FOLDER`` writes ``training.md`` and
``training.json``.
"""

import argparse
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gol
import gol.models
from gol.data.loader import to_device
from gol.engine.precision import Precision

NAME = "activations/gumbel/gumbel_r50_4x4_1x"
PRECISIONS = ("float32", "float32_channels_last", "bfloat16", "bfloat16_channels_last")
_NEAR = {"float32": 1e-5, "bfloat16": 0.02}


class Step:
    """A detector that takes training steps on one made-up batch.

    Args:
        name: of the precision.
        size: images, height and width.
        device: where.
    """

    def __init__(self, name: str, size: tuple[int, int, int], device: str) -> None:
        self.precision, self.device = Precision(name), torch.device(device)
        config = gol.load_experiment(NAME, {"precision": "float32"})
        config.model.backbone.init_cfg = config.gol.weights = None
        detector = gol.build_detector(config).to(device)
        self.detector = self.precision.prepare(detector).train()
        self.optimizer = torch.optim.SGD(self.detector.parameters(), lr=1e-4, momentum=0.9)
        half = self.precision.dtype == torch.float16 and self.device.type == "cuda"
        self.scaler = torch.amp.GradScaler("cuda", enabled=half)
        self.batch = to_device(made_up(*size), self.device, self.precision.memory_format)

    def __call__(self) -> torch.Tensor:
        """One step; returns its loss."""
        torch.manual_seed(0)  # the samplers of proposals and RoIs draw from here
        with self.precision.autocast(self.device):
            loss = self.detector.train_step(self.batch, self.optimizer)["loss"]
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def made_up(batch: int, height: int, width: int) -> dict[str, Any]:
    """A batch as mmdet's pipeline makes it: 12 objects an image, LVIS's mean in train."""
    from mmdet.core.mask import BitmapMasks

    rng, generator = np.random.default_rng(0), torch.Generator().manual_seed(0)
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
        boxes.append(torch.from_numpy(box))
        labels.append(torch.from_numpy(rng.integers(0, 1203, 12)))
        masks.append(BitmapMasks(mask, height, width))
    return {
        "img": torch.randn(batch, 3, height, width, generator=generator),
        "img_metas": [meta] * batch,
        "gt_bboxes": boxes,
        "gt_labels": labels,
        "gt_masks": masks,
    }


def measure(names: list[str], size: tuple[int, int, int], turns: int) -> list[dict[str, Any]]:
    """Median CPU seconds of a step in each precision, in turns after one to warm up."""
    steps = {name: Step(name, size, "cpu") for name in names}
    losses = {name: float(step()) for name, step in steps.items()}
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(turns):
        for name, step in steps.items():
            begin = time.process_time()
            step()
            times[name].append(time.process_time() - begin)
    first, rows = names[0], []
    for name in names:
        near = _NEAR[name.removesuffix("_channels_last")] * abs(losses[first])
        assert abs(losses[name] - losses[first]) <= near, f"{name}: another loss: {losses}"
        seconds = statistics.median(times[name])
        ratio = statistics.median(times[first]) / seconds
        rows.append({"precision": name, "seconds": seconds, "ratio": ratio, "loss": losses[name]})
    return rows


def as_markdown(rows: list[dict[str, Any]], title: str, machine: str) -> str:
    """The table."""
    lines = [
        "| precision | CPU s a step | times as fast | first loss |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {row['precision']} | {row['seconds']:.2f} | {row['ratio']:.2f} | {row['loss']:.6f} |"
        for row in rows
    ]
    return f"# {title}\n\n{machine}. Medians of CPU time, in turns.\n\n" + "\n".join(lines) + "\n"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", default="1x320x448", help="images x height x width")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=[*PRECISIONS])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder for training.md and training.json")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    batch, height, width = map(int, args.size.split("x"))
    rows = measure(args.precisions, (batch, height, width), args.turns)
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {args.threads} thread(s), "
    machine += f"{torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}"
    text = as_markdown(rows, f"A training step of Mask R-CNN R-50 on {args.size}", machine)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "training.md").write_text(text)
        found = {"machine": machine, "size": args.size, "rows": rows}
        (args.out / "training.json").write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
