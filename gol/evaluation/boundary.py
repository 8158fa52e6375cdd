"""Boundary AP: an overlap counts as the smaller of the masks' IoU and that of their outlines.

Cheng, Girshick, Dollár, Berg, Kirillov: "Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation", CVPR 2021. The outline is the part of a mask within d pixels of its edge, with d 2 % of
the image's diagonal. The mask IoU of a large object hardly sees its edge; this does.
"""

from typing import Any

import cv2
import numpy as np
from pycocotools import mask as rle

from gol.errors import UserError
from gol.evaluation.lvis import IOU_THRESHOLDS, mean, metrics
from gol.evaluation.matches import Shape, iou, match_all
from gol.evaluation.source import Source

DILATION = 0.02  # d as a share of the image's diagonal


def measure(source: Source) -> dict[str, Any]:
    """AP of masks, as ``evaluate_by`` wants it.

    Raises:
        UserError: the detections have no masks.
    """
    if source.kind != "segm":
        raise UserError(f"{source.pair.name}: boundary AP compares masks; there are boxes alone")
    categories = source.pair.truth.categories
    matches = match_all(source.pair, "segm", IOU_THRESHOLDS, boundary_iou)
    tables = [each.precision() for each in matches.each()]
    return {
        "protocol": {
            "name": "Boundary AP",
            "iou_thresholds": [round(threshold, 2) for threshold in IOU_THRESHOLDS],
            "dilation_of_diagonal": DILATION,
        },
        "scores": {"boundary": metrics(np.stack(tables, -1)[..., None], categories)},
        "per_class": [
            {"id": category["id"], "name": category["name"], "AP": mean(table)}
            for category, table in zip(categories, tables, strict=True)
        ],
    }


def boundary_iou(found: list[Shape], expected: list[Shape]) -> np.ndarray:
    """(D, G) the smaller of the IoUs of masks and of outlines; 0 where no threshold is reached."""
    ious = iou(found, expected)
    near = ious >= IOU_THRESHOLDS[0]
    outlines = [
        [outline(mask) if wanted else None for mask, wanted in zip(masks, some, strict=True)]
        for masks, some in ((found, near.any(1)), (expected, near.any(0)))
    ]
    for row, column in zip(*near.nonzero(), strict=True):
        pair = [outlines[0][row]], [outlines[1][column]]
        ious[row, column] = min(ious[row, column], iou(*pair)[0, 0])
    return np.where(near, ious, 0.0)


def outline(mask: Shape) -> Shape:
    """The pixels of a mask (RLE) within d pixels of its edge or of the image's; an RLE."""
    height, width = mask["size"]
    distance = max(1, round(DILATION * float(np.hypot(height, width))))
    x, y, w, h = map(int, rle.toBbox(mask))
    pixels = rle.decode(mask)
    inside = np.pad(pixels[y : y + h, x : x + w], 1)
    inside = cv2.erode(inside, np.ones((3, 3), np.uint8), iterations=distance)[1:-1, 1:-1]
    pixels[y : y + h, x : x + w] -= inside
    return rle.encode(np.asfortranarray(pixels))
