"""Images per second and core of the training pipeline: mmdet's and ours, batch by batch in turns.

From the file and its annotations to the collated batch, and, timed apart, the mask targets of 128
RoIs an image. mmdet's pipeline runs with bitmaps (``bitmap``) and with polygons; ours has to give
every tensor and target of the bitmaps, bit for bit, in each batch. How many pixels of the targets
are others with polygons is counted. Memory is the peak of one pass in a fresh process, above what
was resident before; *sent* is what a worker sends of the masks.

``python tests/benchmarks/bench_pipeline.py`` draws pictures with as many masks as LVIS has;
``--images FOLDER --annotations FILE`` takes yours (COCO schema). ``--out FOLDER`` writes
``pipeline.md`` and ``pipeline.json``.
"""

import argparse
import json
import multiprocessing
import os
import pickle
import platform
import random
import statistics
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

import gol.models  # noqa: F401  (makes mmdet importable)
from gol.data.annotations import examine
from gol.data.dataset import InstanceDataset
from gol.data.loader import load
from gol.data.store import AnnotationStore

WAYS = ("mmdet, bitmap", "mmdet, polygon", "gol")
ROIS = 128  # positive RoIs of an image, at most, in mmdet's configs


def draw_photos(folder: Path, args: argparse.Namespace) -> Path:
    """Smooth noise as photos, with polygons of LVIS's number and size; returns the JSON file."""
    rng = np.random.default_rng(args.seed)
    width, height = map(int, args.size.split("x"))
    images, annotations = [], []
    for number in range(args.count):
        noise = rng.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        name = f"{number}.jpg"
        cv2.imwrite(str(folder / name), cv2.resize(noise, (width, height)))
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
        for _ in range(1 + rng.poisson(args.masks - 1)):
            sides = np.clip(np.exp(rng.normal(-2.5, 1, 2)), 0.02, 1) * (width, height) / 2
            centre = sides + rng.random(2) * ((width, height) - 2 * sides)
            radius = sides * rng.uniform(0.7, 1, (40, 1))
            outline = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
            polygon = outline.round(2)
            low, extent = polygon.min(0), np.ptp(polygon, 0)
            entry = {"id": len(annotations), "image_id": number, "category_id": 1, "iscrowd": 0}
            entry |= {"bbox": [*low.tolist(), *extent.tolist()], "area": float(extent.prod())}
            annotations.append(entry | {"segmentation": [polygon.ravel().tolist()]})
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}]}
    (folder / "drawn.json").write_text(json.dumps(data))
    return folder / "drawn.json"


class Items:
    """A dataset's items, by mmdet's pipeline or by ours, with the same random numbers."""

    def __init__(self, way: str, args: argparse.Namespace) -> None:
        from mmdet.datasets.pipelines import Compose

        normalize = {"mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375]}
        width, height = map(int, args.scale.split("x"))
        masks = {"with_mask": True, "poly2mask": way != WAYS[1]}
        steps = [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "with_bbox": True, **masks},
            {"type": "Resize", "img_scale": (width, height), "keep_ratio": True},
            {"type": "RandomFlip", "flip_ratio": 0.5},
            {"type": "Normalize", **normalize},
            {"type": "Pad", "size_divisor": 32},
            {"type": "DefaultFormatBundle"},
            {"type": "Collect", "keys": ["img", "gt_bboxes", "gt_labels", "gt_masks"]},
        ]
        self.dataset = InstanceDataset(str(args.annotations), steps, img_prefix=str(args.images))
        self.pipeline = self.dataset.pipeline if way == "gol" else Compose(steps)
        if way == WAYS[1]:  # RLE is made into polygons beforehand, and not timed
            found = [self.dataset.get_ann_info(i) for i in range(len(self.dataset))]
            self.dataset.get_ann_info = found.__getitem__

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> dict:
        random.seed(index)
        np.random.seed(index)
        annotations = self.dataset.get_ann_info(index)
        results = {"img_info": self.dataset.data_infos[index], "ann_info": annotations}
        self.dataset.pre_pipeline(results)
        return self.pipeline(results)


def mask_targets(batch: dict, size: int = 28) -> torch.Tensor:
    """The targets of random RoIs about the objects, as mmdet's mask heads ask for them."""
    from mmcv import Config
    from mmdet.core import mask_target

    generator = torch.Generator().manual_seed(0)
    owners = [torch.randint(len(b), (ROIS,), generator=generator) for b in batch["gt_bboxes"]]
    rois = []
    for boxes, owner in zip(batch["gt_bboxes"], owners, strict=True):
        side = (boxes[:, 2:] - boxes[:, :2])[owner].repeat(1, 2)
        rois.append(boxes[owner] + side * (0.3 * torch.rand(ROIS, 4, generator=generator) - 0.15))
    return mask_target(rois, owners, batch["gt_masks"], Config({"mask_size": size}))


def measure(args: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Medians over the batches of all rounds; asserts that ours are mmdet's with bitmaps."""
    items = {way: Items(way, args) for way in WAYS}
    number = min(len(items["gol"]), args.count)
    batches = [list(range(i, min(i + args.batch, number))) for i in range(0, number, args.batch)]
    found: dict[str, Any] = {way: {"ms": [], "targets_ms": [], "kb": []} for way in WAYS}
    differ = pixels = 0
    for indices in batches * args.rounds:
        results = {}
        for way in WAYS:
            begin = time.process_time()
            (batch,) = load(items[way], [indices])
            middle = time.process_time()
            targets = mask_targets(batch)
            times = middle - begin, time.process_time() - middle
            for key, seconds in zip(("ms", "targets_ms"), times, strict=True):
                found[way][key].append(1e3 * seconds / len(indices))
            found[way]["kb"].append(len(pickle.dumps(batch["gt_masks"])) / len(indices) / 1024)
            results[way] = batch, targets
        (one, targets), (_, polygons), (other, ours) = (results[way] for way in WAYS)
        same = torch.equal(one["img"], other["img"]) and torch.equal(targets, ours)
        same &= all(map(torch.equal, one["gt_bboxes"], other["gt_bboxes"]))
        same &= str(one["img_metas"]) == str(other["img_metas"])
        assert same, f"images {indices}: not what mmdet makes of them"
        differ, pixels = differ + int((targets != polygons).sum()), pixels + targets.numel()
    rows = {way: {k: statistics.median(v) for k, v in row.items()} for way, row in found.items()}
    for row in rows.values():
        row["images_per_s"] = 1e3 / row["ms"]
        row["targets_differ"] = 0.0
    rows[WAYS[1]]["targets_differ"] = differ / pixels
    return rows


def peak(way: str, args: argparse.Namespace) -> float:
    """MB of one batch and its targets above what was resident before."""
    torch.set_num_threads(1)
    items = Items(way, args)
    mask_targets(*load(items, [[0]]))  # what is loaded once
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    mask_targets(*load(items, [list(range(min(args.batch, len(items))))]))
    return _status("VmHWM") - before


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def as_markdown(rows: dict[str, dict[str, Any]], machine: str) -> str:
    """The table."""
    lines = [
        f"# The training pipeline: mmdet's and ours, in turns\n\n{machine}. Medians of CPU time.\n",
        "| pipeline | ms an image | images/s/core | ratio | targets ms | sent KB | peak MB "
        "| other target pixels |\n|" + " --- |" * 8,
    ]
    for way, row in rows.items():
        lines.append(
            f"| {way} | {row['ms']:.1f} | {row['images_per_s']:.1f} "
            f"| {rows[WAYS[0]]['ms'] / row['ms']:.2f} | {row['targets_ms']:.0f} | {row['kb']:,.0f} "
            f"| {row['peak_mb']:.0f} | {row['targets_differ']:.3%} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=Path, help="folder of photos; drawn by default")
    parser.add_argument("--annotations", type=Path, help="with --images: their COCO or LVIS JSON")
    parser.add_argument("--count", type=int, default=8, help="images")
    parser.add_argument("--size", default="640x480", help="of drawn images")
    parser.add_argument("--masks", type=int, default=13, help="of a drawn image, on average")
    parser.add_argument("--scale", default="1333x800", help="what images are resized to within")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for pipeline.md and pipeline.json")
    args = parser.parse_args()
    if (args.images is None) != (args.annotations is None):
        parser.error("--images and --annotations go together")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        if args.images is None:
            args.images, args.annotations = Path(folder), draw_photos(Path(folder), args)
        data, _ = examine(json.loads(args.annotations.read_text()), args.images)
        args.annotations = Path(folder) / "train.store"
        AnnotationStore.from_annotations(data).save(args.annotations)
        rows = measure(args)
        for way, row in rows.items():
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                row["peak_mb"] = pool.submit(peak, way, args).result()
    machine = f"{platform.machine()}, {os.cpu_count()} cores, 1 thread, torch {torch.__version__}"
    text = as_markdown(rows, machine)
    print(text)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "pipeline.md").write_text(text)
        content = json.dumps({"machine": machine, "rows": rows}, indent=1)
        (args.out / "pipeline.json").write_text(content)


if __name__ == "__main__":
    main()
