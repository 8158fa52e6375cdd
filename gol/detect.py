"""Checkpoint in, detections out: one JSON list in COCO's result format."""

import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gol.checkpoints import load_weights
from gol.config import fingerprint, load_config
from gol.errors import UserError, choices
from gol.files import write_json
from gol.train import PRECISIONS, find_device

_BATCH = 16  # most images at once
_MASK_BYTES = 1 << 30  # mmdet returns a mask of the whole image for every detection


def detect(
    run: str | Path,
    out: str | Path,
    scoring: str | None = None,
    checkpoint: str | Path | None = None,
    device: str | None = None,
) -> int:
    """Detects on the test images of a run's dataset.

    Args:
        run: run folder with ``config.json`` and ``model.pth``.
        out: JSON file to write: a list of {image_id, category_id, score, bbox (x, y, w, h in
            pixels), segmentation (compressed RLE)}.
        scoring: activation that turns logits into scores; default the config's first.
        checkpoint: weights to use instead of ``model.pth``.
        device: ``cpu``, ``cuda`` …; by default CUDA where there is a GPU.

    Returns:
        The number of detections.

    Raises:
        UserError: no config or checkpoint, a checkpoint of other classes, unknown scoring, a
            damaged image, a full disk.
    """
    from gol.models import build_dataset, build_detector, float32_heads, set_scoring

    run, config = Path(run), load_config(run)
    scoring = scoring or config.gol.scorings[0]
    if scoring not in config.gol.scorings:
        allowed = choices(config.gol.scorings)
        raise UserError(f"unknown scoring '{scoring}' for this experiment; allowed: {allowed}")
    place, mark = find_device(device), fingerprint(config)
    torch.set_num_threads(config.gol.threads)
    # The weights come from the checkpoint: nothing is downloaded to be overwritten.
    detector = build_detector(config, initialise=False)
    load_weights(detector, checkpoint or run / "model.pth", None if checkpoint else mark)
    set_scoring(detector, scoring)
    dtype = PRECISIONS[config.gol.precision]
    if dtype:
        float32_heads(detector)
    detector.to(place).eval()
    dataset = build_dataset(config.data.test, {"test_mode": True})
    detections: list[dict] = []
    amp = torch.autocast(place.type, dtype) if dtype else nullcontext()
    with torch.inference_mode(), amp:
        for indices, batch in _batches(dataset, place, config):
            results = detector(return_loss=False, rescale=True, **batch)
            for index, result in zip(indices, results, strict=True):
                detections += _entries(result, dataset.img_ids[index], dataset.cat_ids)
    write_json(out, detections)
    return len(detections)


def _batches(dataset: Any, device: torch.device, config: Any) -> Iterator[tuple[list[int], dict]]:
    """Test batches of images of one shape, so that none is padded, with progress on stderr."""
    from mmcv.parallel import collate

    from gol.data.loader import to_device

    begin = printed = time.monotonic()
    shapes = [(info["height"], info["width"]) for info in dataset.data_infos]
    order = sorted(range(len(dataset)), key=lambda index: shapes[index])
    position = 0
    while position < len(order):
        height, width = shapes[order[position]]
        fitting = _MASK_BYTES // (height * width * config.model.test_cfg.rcnn.max_per_img)
        size = min(max(fitting, 1), _BATCH)
        indices = [
            i for i in order[position : position + size] if shapes[i] == shapes[order[position]]
        ]
        items = [dataset[index] for index in indices]
        yield indices, to_device(collate(items, samples_per_gpu=len(items)), device)
        position += len(indices)
        if time.monotonic() - printed > 5 or position == len(order):
            printed = time.monotonic()
            rate, name = position / (printed - begin), config.gol.experiment
            print(
                f"{name}  detected {position}/{len(order)}  {rate:.1f} img/s",
                file=sys.stderr,
                flush=True,
            )


def _entries(result: Any, image_id: int, category_ids: list[int]) -> list[dict]:
    """One image's result of mmdet as COCO entries, coordinates rounded to 1/100 pixel."""
    import pycocotools.mask

    boxes, masks = result if isinstance(result, tuple) else (result, None)
    entries = []
    for label, rows in enumerate(boxes):
        for row, (x1, y1, x2, y2, score) in enumerate(rows.tolist()):
            entry = {
                "image_id": image_id,
                "category_id": category_ids[label],
                "score": score,
                "bbox": [round(v, 2) for v in (x1, y1, x2 - x1, y2 - y1)],
            }
            if masks is not None:
                rle = pycocotools.mask.encode(np.asfortranarray(masks[label][row], dtype=np.uint8))
                entry["segmentation"] = {"size": rle["size"], "counts": rle["counts"].decode()}
            entries.append(entry)
    return entries
