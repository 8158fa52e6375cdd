"""Writes run folders as training and evaluation leave them, with made-up numbers."""

import hashlib
import json
import math
import random
from pathlib import Path

import cv2
import numpy as np

from gol.costs import Attempt, write_attempts
from gol.data.store import AnnotationStore

PUBLISHED = {"AP": 16.4, "APr": 0.8, "APc": 12.7, "APf": 27.3, "APb": 17.2}
GROUPS = {"r": range(1, 11), "c": range(11, 101), "f": range(101, 3000)}


def make_run(
    folder: Path,
    name: str = "gumbel",
    seed: int = 0,
    scorings: tuple[str, ...] = ("gumbel",),
    published: dict | None = None,
    statement: str | None = "a drawn set, which is not LVIS",
    classes: int = 40,
    lines: int = 60,
    skill: float = 0.4,
    salt: int = 0,
) -> Path:
    """One finished run; the numbers follow from ``name``, ``seed`` and ``salt`` alone."""
    rng = random.Random(f"{name} {seed} {salt}")
    iterations = 10 * lines
    started = 1_700_000_000 + rng.random() * 1e6
    identity = {
        "experiment": f"demo/{name}",
        "label": name.replace("_", " ").capitalize(),
        "axes": {
            "detector": "mask_rcnn",
            "backbone": "r18_demo",
            "classifier": name,
            "layer": "linear",
            "mask_predictor": "conv",
            "sampler": "random",
            "schedule": "demo_16e",
            "dataset": "demo",
        },
        "seed": seed,
        "scorings": list(scorings),
        "published": published,
        "statement": statement,
    }
    config = json.dumps({"optimizer": {"type": "SGD", "lr": 0.02}, "gol": identity})
    train = {
        "fingerprint": hashlib.sha256(config.encode()).hexdigest(),
        "iterations": iterations,
        "seconds": 100 + 20 * rng.random(),
        "images_per_second": 80 + 5 * rng.random(),
        "parameters": 1_240_000,
        "device": "cpu",
        "started": started,
        "finished": started + 130.5,
        "versions": {"gol": "0.1.0", "torch": "2.14.1", "mmdet": "2.28.2"},
    }
    (folder / "evaluation").mkdir(parents=True)
    (folder / "train.json").write_text(json.dumps(train))
    (folder / "config.json").write_text(config)
    (folder / "metrics.jsonl").write_text(_curve(rng, lines, started))
    for scoring in scorings:
        result = evaluation(rng, classes, skill)
        (folder / "evaluation" / f"{scoring}.json").write_text(json.dumps(result))
    return folder


def evaluation(rng: random.Random, classes: int, skill: float = 0.4) -> dict:
    """A result whose group values are the means of its class values."""
    per_class = []
    for index in range(classes):
        count = max(1, round(300 * (1 / 300) ** (index / max(classes - 1, 1))))
        ability = skill * (0.3 + 0.7 * math.log(count + 1) / math.log(301))
        ap = min(1.0, max(0.0, rng.gauss(ability, 0.08)))
        per_class.append(
            {
                "id": index + 1,
                "name": f"class_{index + 1}",
                "frequency": next(group for group, span in GROUPS.items() if count in span),
                "image_count": count,
                "segm_AP": ap,
                "bbox_AP": min(1.0, ap * 1.05),
            }
        )
    per_class[-1]["segm_AP"] = per_class[-1]["bbox_AP"] = None  # no ground truth, no value
    return {
        "protocol": {
            "name": "LVIS",
            "iou_thresholds": [round(0.5 + 0.05 * step, 2) for step in range(10)],
            "recall_points": 101,
            "max_detections": 300,
            "area_ranges": {"all": [0.0, 1e10], "small": [0.0, 1024.0]},
            "sizes_by": "box area",
        },
        "engine": "hotcoco 1.3.0",
        "images": 250,
        "detections": 25_000,
        "segm": _summary(per_class, "segm_AP"),
        "bbox": _summary(per_class, "bbox_AP"),
        "per_class": per_class,
    }


def _summary(per_class: list[dict], key: str) -> dict:
    def mean(groups: str) -> float | None:
        values = [c[key] for c in per_class if c["frequency"] in groups and c[key] is not None]
        return sum(values) / len(values) if values else None

    ap = mean("rcf")
    sizes = {"AP50": 0.9 * ap + 0.1, "AP75": ap, "APs": 0.7 * ap, "APm": 1.1 * ap, "APl": None}
    return {"AP": ap, **sizes, "APr": mean("r"), "APc": mean("c"), "APf": mean("f")}


def _curve(rng: random.Random, lines: int, started: float) -> str:
    text = ""
    for number in range(1, lines + 1):
        loss = 0.6 + 3 * math.exp(-3 * number / lines) + 0.15 * rng.random()
        point = {
            "time": started + 2 * number,
            "iteration": 10 * number,
            "epoch": number / 9,
            "lr": 0.02 * min(1, number / 6),
            "loss": loss,
            "loss_cls": 0.5 * loss,
            "loss_bbox": 0.2 * loss,
            "loss_mask": 0.3 * loss,
            "grad_norm": 2 + rng.random(),
            "images_per_second": 80 + rng.random(),
            "eta_seconds": 2.0 * (lines - number),
        }
        text += json.dumps(point) + "\n"
    return text


def bill(path: Path, *starts: dict) -> None:
    """Lists what the starts of a training or a detection took, by default of 4 GPUs."""
    path.parent.mkdir(exist_ok=True)
    usual = {"started": 1.0, "device": "NVIDIA A100", "devices": 4}
    write_attempts(path, [Attempt(**{**usual, **start}) for start in starts], "gol train")


def draw_images(rng: np.random.Generator, dataset: dict, folder: Path) -> None:
    """The images of a dataset, of noise in several forms, and its annotations as ``val.store``."""
    forms = [
        ("jpg", np.uint8, 3),
        ("png", np.uint8, 1),
        ("png", np.uint16, 1),
        ("png", np.uint8, 4),
    ]
    for number, image in enumerate(dataset["images"]):
        suffix, kind, channels = forms[number % len(forms)]
        shape = (image["height"], image["width"], channels)
        image["file_name"] = f"{image['id']}.{suffix}"
        pixels = rng.integers(np.iinfo(kind).max, size=shape).astype(kind)
        assert cv2.imwrite(str(folder / image["file_name"]), pixels)
    AnnotationStore.from_annotations(dataset).save(folder / "val.store")


def edit(path, **changes):
    """Changes keys of a JSON file."""
    content = json.loads(path.read_text())
    content.update(changes)
    path.write_text(json.dumps(content))


def edit_gol(folder, **changes):
    """Changes keys of the ``gol`` part of a run's config, in a dictionary one by one."""
    own = json.loads((folder / "config.json").read_text())["gol"]
    for key, value in changes.items():
        own[key] = {**own[key], **value} if key == "axes" else value
    edit(folder / "config.json", gol=own)


def bare_config(annotations: str | Path) -> dict:
    """No more of a resolved config than launching reads, with the same annotations for both."""
    part = {"ann_file": str(annotations)}
    return {
        "seed": 0,
        "model": {"backbone": {}, "roi_head": {}, "test_cfg": {"rcnn": {"max_per_img": 300}}},
        "data": {"samples_per_gpu": 4, "workers_per_gpu": 0, "train": part, "test": part},
        "optimizer": {"lr": 0.02},
        "optimizer_config": {"grad_clip": None},
        "lr_config": {"policy": "step"},
        "runner": {"max_epochs": 1},
        "gol": {
            "experiment": "demo/gumbel",
            "label": "Gumbel",
            "axes": {"backbone": "r18_demo"},
            "seed": 0,
            "scorings": ["gumbel"],
            "base_batch": 16,
            "global_batch": 16,
            "precision": "float32",
            "weights": None,
            "checkpoint_interval": 100,
            "checkpoint_minutes": 10,
            "threads": 1,
        },
    }
