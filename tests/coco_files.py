"""Small random COCO-schema data sets with real image files, for the tests of gol.data."""

import cv2
import numpy as np
from pycocotools import mask as coco_mask

from gol.data.images import file_names


def random_coco(rng, folder, images=6, categories=5, first_id=1):
    """Writes images to ``folder`` and returns their annotations as COCO would store them.

    Masks are boxes, random polygons and RLE, compressed and not, from pycocotools.
    """
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 3 * i + 2, "name": f"class {i}"} for i in range(categories)][::-1],
    }
    for number in range(first_id, first_id + images):
        width, height = (int(side) for side in rng.integers(40, 90, 2))
        name = f"{number:012d}.{rng.choice(['jpg', 'png'])}"
        cv2.imwrite(str(folder / name), rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        image = {"id": number, "file_name": name, "width": width, "height": height}
        data["images"].append(image)
        for _ in range(4):
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(rng.choice([c["id"] for c in data["categories"]])),
                    "iscrowd": 0,
                    **random_object(rng, width, height),
                }
            )
    return data


def blank_images(data, folder):
    """Writes a white image of the right size for each that an annotation file names."""
    for image in data["images"]:
        path = folder / file_names(image)[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.full((image["height"], image["width"]), 255, np.uint8))
    return folder


def random_object(rng, width, height):
    """A box, its area and its mask in one of the four forms that COCO files hold."""
    w, h = int(rng.integers(4, width // 2)), int(rng.integers(4, height // 2))
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    form = rng.integers(4)
    if form == 0:
        return {
            "bbox": [x, y, w, h],
            "area": w * h,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]],
        }
    if form == 1:
        points = rng.uniform((x, y), (x + w, y + h), (7, 2)).round(2)
        low, high = points.min(0), points.max(0)
        return {
            "bbox": [*low.tolist(), *(high - low).round(2).tolist()],
            "area": round(float(cv2.contourArea(points.astype(np.float32))) + 1, 2),
            "segmentation": [points.ravel().tolist()],
        }
    mask = np.zeros((height, width), np.uint8)
    mask[y : y + h, x : x + w] = rng.random((h, w)) < 0.7
    mask[y, x] = 1
    rle = coco_mask.encode(np.asfortranarray(mask))
    segmentation = {"size": [height, width], "counts": rle["counts"].decode()}
    if form == 2:  # COCO writes crowds with plain counts
        changes = np.flatnonzero(np.diff(mask.ravel(order="F"), prepend=0, append=2))
        segmentation["counts"] = np.diff(changes, prepend=0).tolist()
    return {
        "bbox": [float(value) for value in coco_mask.toBbox(rle)],
        "area": int(mask.sum()),
        "segmentation": segmentation,
    }


def to_mask(segmentation, height, width):
    """The oracle's mask of any segmentation, (height, width) bool."""
    rle = segmentation
    if isinstance(segmentation, list) or isinstance(segmentation["counts"], list):
        rle = coco_mask.frPyObjects(segmentation, height, width)
    return coco_mask.decode(coco_mask.merge(rle) if isinstance(rle, list) else rle).astype(bool)
