"""Random ground truth and detections with every awkward case, and lvis-api's verdict on them."""

import copy
import json
import logging
from pathlib import Path

import numpy as np
from pycocotools import mask as rle

from gol import compat

CLASSWISE = "per class"


def random_dataset(rng, images=12, classes=10, size=(40, 200), awkward=True) -> dict:
    """A long-tailed LVIS-schema dataset; ids are shuffled, two classes have no ground truth.

    ``awkward`` adds annotations without area, ignored ones and crowds, and areas that lie on
    the borders of the size ranges.
    """
    class_ids = (rng.permutation(3 * classes)[:classes] + 1).tolist()
    drawn, weights = class_ids[:-2], np.geomspace(1, 0.05, classes - 2)
    categories = [
        {"id": i, "name": f"class {i}", "frequency": str(rng.choice(list("rcf"))), "image_count": i}
        for i in class_ids
    ]
    dataset = {"images": [], "annotations": [], "categories": categories}
    for image_id in (rng.permutation(5 * images)[:images] + 1).tolist():
        height, width = (int(n) for n in rng.integers(*size, 2))
        present = rng.choice(drawn, int(rng.integers(0, 7)), p=weights / weights.sum()).tolist()
        for category_id in present:
            box, mask = _random_object(rng, height, width)
            annotation = {
                "id": len(dataset["annotations"]) + 1,
                "image_id": image_id,
                "category_id": category_id,
                "bbox": box,
                "area": float(rle.area(mask)),
                "segmentation": mask if rng.random() < 0.5 else [_corners(box)],
            }
            if awkward:
                change = [{"area": 0.0}, {"ignore": 1}, {"iscrowd": 1}, {"area": 32.0**2}]
                annotation |= change[int(rng.integers(4))] if rng.random() < 0.3 else {}
            dataset["annotations"].append(annotation)
        absent = [i for i in class_ids if i not in present]
        dataset["images"].append(
            {
                "id": image_id,
                "height": height,
                "width": width,
                "neg_category_ids": [i for i in absent if rng.random() < 0.5],
                "not_exhaustive_category_ids": [i for i in class_ids if rng.random() < 0.15],
            }
        )
    return dataset


def random_detections(rng, dataset: dict, false_positives=6, crowded=1) -> list[dict]:
    """Shifted ground truth and false positives, of all classes and on all images.

    Most scores are one of nine values, so ties are common within and across images. Some masks
    are empty, some boxes have no area, and ``crowded`` images get 700 detections more, half of
    them of one class.
    """
    images = {image["id"]: image for image in dataset["images"]}
    class_ids = [category["id"] for category in dataset["categories"]]
    annotated = [annotation["category_id"] for annotation in dataset["annotations"]]
    detections = []
    for annotation in dataset["annotations"]:
        image, box = images[annotation["image_id"]], np.array(annotation["bbox"])
        mask = rle.decode(_mask(annotation["segmentation"], image["height"], image["width"]))
        for _ in range(int(rng.integers(0, 3))):
            offset = rng.normal(0, 0.06, 2) * box[2:]
            shifted = np.roll(mask, offset.round().astype(int)[::-1], (0, 1))
            scale = np.array([1, 1, *rng.uniform(0.85, 1.15, 2)])
            detections.append(
                {
                    "image_id": image["id"],
                    "category_id": annotation["category_id"],
                    "bbox": ((box + np.array([*offset, 0, 0])) * scale).tolist(),
                    "segmentation": _text(rle.encode(np.asfortranarray(shifted))),
                }
            )
    extra = dict.fromkeys(rng.choice(list(images), crowded, replace=False).tolist(), 700)
    for image_id, image in images.items():
        favourite = int(rng.choice(annotated or class_ids))
        for k in range(int(rng.integers(0, 2 * false_positives + 1)) + extra.get(image_id, 0)):
            box, mask = _random_object(rng, image["height"], image["width"])
            chosen = favourite if k % 2 and image_id in extra else int(rng.choice(class_ids))
            detections.append({"image_id": image_id, "category_id": chosen})
            detections[-1] |= {"bbox": box, "segmentation": mask}
    for detection in detections:
        tied = rng.random() < 0.7
        detection["score"] = float(rng.integers(0, 9) / 8 if tied else np.float32(rng.random()))
        if rng.random() < 0.05:
            detection["bbox"][int(rng.integers(2, 4))] = 0.0
        if rng.random() < 0.05:
            empty = np.zeros(detection["segmentation"]["size"], np.uint8, order="F")
            detection["segmentation"] = _text(rle.encode(empty))
    return [detections[i] for i in rng.permutation(len(detections))]


def lvis_api(
    dataset: dict, detections: list[dict], iou_type: str, max_detections=300, keep_masks=False
) -> dict:
    """What lvis-api 0.5.3 finds: its AP metrics (-1 → None) and ``{category id: AP}``."""
    evaluation = lvis_evaluation(dataset, detections, iou_type, max_detections, keep_masks)
    metrics = {k: v for k, v in evaluation.results.items() if k.startswith("AP")}
    by_class = evaluation.eval["precision"][..., 0].mean((0, 1))
    metrics |= {(CLASSWISE, i): v for i, v in zip(evaluation.params.cat_ids, by_class, strict=True)}
    return {key: None if value == -1 else float(value) for key, value in metrics.items()}


def lvis_evaluation(
    dataset: dict, detections: list[dict], iou_type: str, max_detections=300, keep_masks=False
):
    """lvis-api's own evaluation, done.

    Detections are passed as mmdet writes them: with the box for both types, and with the mask
    for "segm" only, unless ``keep_masks``.
    """
    compat.numpy_aliases()  # all that lvis-api needs; apply() would import mmdet as well
    from lvis import LVIS, LVISEval, LVISResults

    logging.getLogger("lvis").setLevel(logging.ERROR)
    truth = LVIS.__new__(LVIS)  # its constructor takes a path only
    truth.logger = logging.getLogger("lvis.lvis")
    truth.dataset = copy.deepcopy(dataset)
    truth._create_index()
    drop = () if keep_masks or iou_type == "segm" else ("segmentation",)
    results = [{k: v for k, v in entry.items() if k not in drop} for entry in detections]
    evaluation = LVISEval(truth, LVISResults(truth, results, max_detections), iou_type)
    evaluation.run()
    return evaluation


def flat(result: dict, iou_type: str) -> dict:
    """Our result with the keys of ``lvis_api``."""
    classwise = {(CLASSWISE, row["id"]): row[f"{iou_type}_AP"] for row in result["per_class"]}
    return result[iou_type] | classwise


def write(folder: Path, dataset: dict, detections: list[dict]) -> tuple[Path, Path]:
    """Both as JSON files, in the order of ``evaluate``'s arguments."""
    paths = folder / "annotations.json", folder / "detections.json"
    for path, content in zip(paths, (dataset, detections), strict=True):
        path.write_text(json.dumps(content))
    return paths


def _random_object(rng, height, width):
    """A box inside the image, of log-uniform sides, and an octagonal mask in it."""
    sides = np.exp(rng.uniform(np.log(3), np.log([width, height])))
    x, y = rng.uniform(0, [width, height] - sides)
    box = [float(x), float(y), *sides.tolist()]
    angles = np.arange(8) * np.pi / 4 + 0.3
    centre = np.array([x, y]) + sides / 2
    outline = centre + 0.54 * sides * np.stack([np.cos(angles), np.sin(angles)], 1)
    return box, _text(_mask([outline.clip(0).ravel().tolist()], height, width))


def _corners(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x + w / 3, y + h, x, y + h]


def _mask(segmentation, height, width):
    if isinstance(segmentation, list):
        return rle.merge(rle.frPyObjects(segmentation, height, width))
    return segmentation


def _text(mask):
    counts = mask["counts"]
    return {
        "size": [int(n) for n in mask["size"]],
        "counts": counts.decode() if isinstance(counts, bytes) else counts,
    }
