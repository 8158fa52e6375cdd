"""Photos with what was found in them: drawn, cut out, and as JSON of the usual schemas."""

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gol.errors import visible
from gol.files import atomic_path

if TYPE_CHECKING:
    from supervision import Detections

_QUALITY = 92  # of a JPEG
_LEAST_SIDE = 640  # pixels of the longer side in which names can be read


def draw(pixels: np.ndarray, found: "Detections") -> np.ndarray:
    """The photo with masks, boxes, names and scores; each class has a colour of its own.

    A photo so small that the names would hide it is enlarged by a whole number.

    Args:
        pixels: (h, w, 3) uint8, BGR.
        found: D detections, with ``class_name`` in their data.

    Returns:
        (h, w, 3) uint8, BGR, or a multiple of that size.
    """
    import supervision as sv
    from matplotlib import font_manager

    scene, found = _enlarged(pixels, found)
    height, width = scene.shape[:2]
    if not len(found):
        return scene
    thickness = sv.calculate_optimal_line_thickness((width, height))
    if found.mask is not None:
        scene = sv.MaskAnnotator(opacity=0.4).annotate(scene, found)
    scene = sv.BoxAnnotator(thickness=thickness).annotate(scene, found)
    names = zip(found.data["class_name"], found.confidence, strict=True)
    # OpenCV's own letters are ASCII alone.
    labels = sv.RichLabelAnnotator(
        font_path=font_manager.findfont("DejaVu Sans"),
        font_size=max(9, round(0.02 * math.sqrt(height * width))),
        text_padding=thickness + 1,
        smart_position=True,
    )
    return labels.annotate(scene, found, [visible(f"{name} {score:.2f}") for name, score in names])


def _enlarged(pixels: np.ndarray, found: "Detections") -> tuple[np.ndarray, "Detections"]:
    from dataclasses import replace

    factor = max(_LEAST_SIDE // max(pixels.shape[:2]), 1)
    larger = np.ones((factor, factor), np.uint8)
    mask = None if found.mask is None else np.kron(found.mask, larger.astype(bool)[None])
    return np.kron(pixels, larger[..., None]), replace(found, xyxy=found.xyxy * factor, mask=mask)


def write_photo(path: Path, pixels: np.ndarray) -> None:
    """Writes an array (h, w, 3) uint8, BGR, as JPEG, whole or not at all.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    with atomic_path(path) as temporary:
        temporary.write_bytes(jpeg(pixels))


def jpeg(pixels: np.ndarray) -> bytes:
    """An array (h, w, 3) uint8, BGR, as the content of a JPEG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, ::-1]).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def cut_outs(pixels: np.ndarray, found: "Detections") -> list[np.ndarray]:
    """The part of the photo within each box; what of it the mask leaves out is white."""
    height, width = pixels.shape[:2]
    parts = []
    for row, (x1, y1, x2, y2) in enumerate(found.xyxy):
        left, top = max(math.floor(x1), 0), max(math.floor(y1), 0)
        right, bottom = min(math.ceil(x2), width), min(math.ceil(y2), height)
        part = pixels[top : max(bottom, top + 1), left : max(right, left + 1)].copy()
        if found.mask is not None:
            part[~found.mask[row, top : top + len(part), left : left + part.shape[1]]] = 255
        parts.append(part)
    return parts


class Record:
    """What was found in several photos, as JSON.

    Args:
        classes: names in the order of the labels; their ids are 1 … C.
    """

    def __init__(self, classes: list[str]) -> None:
        self.categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(
        self, file: str | Path, picture: Path | None, size: tuple[int, int], found: "Detections"
    ) -> None:
        """Adds a photo: its file, the picture drawn of it, its height and width in pixels."""
        image_id, (height, width) = len(self.images) + 1, size
        drawn = {"picture": picture.name} if picture else {}
        image = {"id": image_id, "file_name": str(file), **drawn, "width": width, "height": height}
        self.images.append(image)
        for row in range(len(found)):
            x1, y1, x2, y2 = (float(value) for value in found.xyxy[row])
            entry = {
                "id": len(self.annotations) + 1,
                "image_id": image_id,
                "category_id": int(found.class_id[row]) + 1,
                "score": float(found.confidence[row]),
                "bbox": [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            if found.mask is not None:
                entry |= _mask(found.mask[row])
            self.annotations.append(entry)

    def dataset(self) -> dict[str, list[dict[str, Any]]]:
        """Photos, detections with scores, and classes in the COCO and LVIS schema."""
        return {
            "images": self.images,
            "annotations": self.annotations,
            "categories": self.categories,
        }

    def results(self) -> list[dict[str, Any]]:
        """The detections alone, in COCO's result format."""
        keys = ("image_id", "category_id", "score", "bbox", "segmentation")
        return [{key: entry[key] for key in keys if key in entry} for entry in self.annotations]


def _mask(mask: np.ndarray) -> dict[str, Any]:
    import pycocotools.mask

    rle = pycocotools.mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    segmentation = {"size": rle["size"], "counts": rle["counts"].decode()}
    return {"segmentation": segmentation, "area": float(mask.sum())}
