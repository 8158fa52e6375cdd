"""Start-up and memory of a training rank: our annotation store against mmdet's dataset class.

Draws a file of LVIS v1's size (``--scale 1``: 1.1 GB on disk, 8 GB of memory), prepares it, and
builds the training set with repeat factors, each side in a fresh process. A data worker forked from
it loads the boxes and polygons that it meets in an epoch on 4 GPUs; the process itself loads random
images with their masks drawn, and the sides are compared. *Private* memory is what no other process
shares (USS), while a second process holds the same modules and, in our case, the same store. Files
are in the page cache; imports are not timed.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from lvis_scale import write_annotations

SPAWN, FORK = (multiprocessing.get_context(method) for method in ("spawn", "fork"))
WORKERS = 8  # data workers of a training on 4 GPUs that share an epoch
THRESHOLD = 1e-3  # of the repeat factors, as in the paper's configs


def build(side: str, folder: Path):
    """The training set of our configs, or of mmdet's for LVIS v1."""
    from gol.models import build_dataset

    kind, file = ("InstanceDataset", "store") if side == "gol" else ("LVISV1Dataset", "json")
    dataset = {"type": kind, "ann_file": str(folder / f"train.{file}"), "pipeline": []}
    repeat = {"type": "ClassBalancedDataset", "oversample_thr": THRESHOLD, "dataset": dataset}
    return build_dataset(repeat)


def load(dataset, index: int, **settings) -> tuple[dict, dict, dict]:
    """An image's entry, its annotations, and what mmdet's pipeline makes of them."""
    from mmdet.datasets.pipelines import LoadAnnotations

    info, annotations = dataset.data_infos[index], dataset.get_ann_info(index)
    item = {"img_info": info, "ann_info": annotations, "bbox_fields": [], "mask_fields": []}
    return info, annotations, LoadAnnotations(with_bbox=True, with_mask=True, **settings)(item)


def sample(dataset, index: int) -> str:
    """Digest of an image's annotations as stored and as loaded."""
    info, annotations, item = load(dataset, index)
    plain = [info[key] for key in ("filename", "id", "width", "height")] + annotations["masks"]
    digest = hashlib.sha256(json.dumps(plain).encode())
    keys = ("gt_bboxes", "gt_bboxes_ignore", "gt_labels")
    for array in (*(item[key] for key in keys), item["gt_masks"].masks):
        digest.update(f"{array.dtype} {array.shape}".encode() + array.tobytes())
    return digest.hexdigest()


def private() -> float:
    """Private memory of this process in MB."""
    return psutil.Process().memory_full_info().uss / 1e6


def rank(side: str, folder: Path, count: int, seed: int) -> dict:
    """The figures of one training rank and of its data worker."""
    import gol.models  # noqa: F401

    imported, start, cpu = private(), time.perf_counter(), time.process_time()
    repeated = build(side, folder)
    result = {"start": time.perf_counter() - start, "start_cpu": time.process_time() - cpu}
    result |= {"imported": imported, "rank": private() - imported}
    dataset, rng = repeated.dataset, np.random.default_rng(seed)
    order = rng.permutation(len(dataset)).tolist()
    chosen, met = order[:count], order[: len(repeated) // WORKERS]
    receiver, sender = FORK.Pipe(duplex=False)
    child = FORK.Process(target=work, args=(dataset, met, sender))
    child.start()
    result["worker"] = receiver.recv()
    child.join()
    cpu = time.process_time()
    samples = [sample(dataset, index) for index in chosen]
    result["sample"] = (time.process_time() - cpu) / len(chosen) * 1e3
    result["used"] = private() - imported
    content = [samples, repeated.repeat_indices, repeated.flag.tolist(), dataset.img_ids]
    return result | {"length": len(repeated), "content": content}


def work(dataset, met: list[int], pipe) -> None:
    """A data worker: sends its private memory after an epoch."""
    for index in met:
        load(dataset, index, poly2mask=False)
    pipe.send(private())


def companion(side: str, folder: Path, ready, done) -> None:
    """A second rank of ours that has seen all images; beside mmdet, the modules alone."""
    import gol.models  # noqa: F401

    if side == "gol":
        dataset = build(side, folder).dataset
        for index in range(len(dataset)):
            dataset.get_ann_info(index)
    ready.set()
    done.wait()


def link_images(raw: Path, folder: Path) -> None:
    """Gives every image a file of its size, the same one for all of a size."""
    import cv2

    for image in json.loads(raw.read_text())["images"]:
        size = (image["height"], image["width"])
        path = folder / "/".join(image["coco_url"].split("/")[-2:])
        white = folder / "white-{}x{}.jpg".format(*size)
        if not white.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(white), np.full(size, 255, np.uint8))
        path.symlink_to(white)


def prepare(raw: Path, val: Path, folder: Path) -> tuple[float, float]:
    """Seconds and peak memory in GB of preprocessing; of images only header and end are read."""
    from gol.data.preprocess import preprocess_dataset

    start = time.perf_counter()
    preprocess_dataset(raw, raw.parent, val, raw.parent, folder, decode=False)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    return time.perf_counter() - start, peak


def fresh(function, *arguments):
    """What ``function`` returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=SPAWN) as pool:
        return pool.submit(function, *arguments).result()


def measure(side: str, folder: Path, count: int, seed: int) -> dict:
    ready, done = SPAWN.Event(), SPAWN.Event()
    other = SPAWN.Process(target=companion, args=(side, folder, ready, done))
    other.start()
    ready.wait()
    try:
        return fresh(rank, side, folder, count, seed)
    finally:
        done.set()
        other.join()


def table(args, folder: Path, prepared: tuple[float, float], found: dict) -> str:
    ours, theirs = found["gol"], found["mmdet"]
    equal = ours["content"] == theirs["content"]
    sizes = {name: (folder / name).stat().st_size / 1e6 for name in ("train.json", "train.store")}
    rows = {
        "start-up of a rank, s": "start",
        "the same, CPU seconds": "start_cpu",
        "private memory of a rank after start-up, MB": "rank",
        f"the same after {args.samples} images, MB": "used",
        f"private memory of a data worker after 1/{WORKERS} of an epoch, MB": "worker",
        "boxes, labels and masks of one image, CPU ms": "sample",
    }
    lines = [
        "# Annotation store against mmdet's dataset class",
        "",
        f"`python tests/benchmarks/bench_store.py --scale {args.scale:g} --seed {args.seed}` on "
        f"{os.cpu_count()} cores. {sizes['train.json']:,.0f} MB of JSON, "
        f"{sizes['train.store']:,.0f} MB of store; {len(ours['content'][3]):,} images to train on, "
        f"{ours['length']:,} with repeat factors (t = {THRESHOLD:g}). "
        "Memory is private (USS) and above what the imports take "
        f"({ours['imported']:,.0f} MB); a data worker's is all of its own.",
        "",
        "| | mmdet's `LVISV1Dataset` on JSON | `InstanceDataset` on the store | ratio |",
        "|---|---|---|---|",
        *(
            f"| {name} | {theirs[key]:,.2f} | {ours[key]:,.2f} | {theirs[key] / ours[key]:,.1f} |"
            for name, key in rows.items()
        ),
        "",
        f"Samples of {args.samples} random images, indices with repeats, flags and image ids: "
        f"{'identical' if equal else 'DIFFERENT'}.",
        "",
        f"Written once by `gol preprocess` (with `decode: false`): {prepared[0]:,.0f} s, "
        f"{prepared[1]:,.1f} GB at its peak.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=0.02, help="share of LVIS v1 (default 0.02)")
    parser.add_argument("--samples", type=int, default=1000, help="images to load and compare")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        raw, val = folder / "raw.json", folder / "raw_val.json"
        write_annotations(raw, args.scale, args.seed)
        write_annotations(val, 0.001, args.seed)
        fresh(link_images, raw, folder)
        prepared = fresh(prepare, raw, val, folder)
        found = {side: measure(side, folder, args.samples, args.seed) for side in ("gol", "mmdet")}
        text = table(args, folder, prepared, found)
    print(text)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
