"""Masks of a detector that detects: small ones leave the device, and become RLEs when looked at.

mmdet draws each mask at the image's size; here its mask heads hand out :class:`LazyMasks` instead.

Shapes: D: detections of an image, C: classes, R × S: rows and columns of a small mask.
"""

from collections.abc import Callable, Sequence
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch

from gol.models.run_lengths import Rle, encode


class LazyMasks(Sequence):
    """An image's masks as C lists of RLEs, where mmdet has C lists of bitmaps.

    They are encoded when first looked at, in whichever thread that is.

    Args:
        probabilities: (D, R, S) float32.
        boxes: (D, 4) float32, in pixels of the image.
        labels: (D,) from 0 to C - 1.
        classes: C.
        size: height and width of the image.
        threshold: least probability of a pixel that is set.
    """

    def __init__(
        self,
        probabilities: np.ndarray,
        boxes: np.ndarray,
        labels: np.ndarray,
        classes: int,
        size: tuple[int, int],
        threshold: float,
    ) -> None:
        self.probabilities, self.boxes, self.labels = probabilities, boxes, labels
        self.classes, self.size, self.threshold = classes, size, threshold

    @cached_property
    def _by_class(self) -> list[list[Rle]]:
        by_class: list[list[Rle]] = [[] for _ in range(self.classes)]
        rles = encode(self.probabilities, self.boxes, self.size, self.threshold)
        for label, rle in zip(self.labels.tolist(), rles, strict=True):
            by_class[label].append(rle)
        return by_class

    def __len__(self) -> int:
        return self.classes

    def __getitem__(self, index: Any) -> Any:
        return self._by_class[index]


def lazy_masks(detector: torch.nn.Module, at_once: int = 0) -> None:
    """Makes a detector's results hold :class:`LazyMasks`, be it Mask R-CNN, Cascade or HTC.

    Of a mask head's C masks the detected class's is kept as soon as they are made, since mmdet's
    cascades take all C from the device, in each stage.

    Args:
        detector: an mmdet two-stage detector that only detects from here on; one without masks
            stays as it is. Whatever else replaces its ``get_bboxes`` must do so before.
        at_once: the most detections whose C masks are in memory; 0: any number.
    """
    roi_head = detector.roi_head
    if not roi_head.with_mask:
        return
    found: list[torch.Tensor] = []  # labels of each image of the batch
    bbox_head = _stages(roi_head.bbox_head)[-1]
    get_bboxes = bbox_head.get_bboxes

    def recorded(*args: Any, **kwargs: Any) -> Any:
        boxes, labels = get_bboxes(*args, **kwargs)
        found.append(labels)
        return boxes, labels

    detector.register_forward_pre_hook(lambda *_: found.clear())
    bbox_head.get_bboxes = recorded
    for head in _stages(roi_head.mask_head):
        labels = None if head.class_agnostic else found
        head.forward = partial(_forward, head.forward, labels, at_once)
        head.get_seg_masks = partial(_lazy, head)


def _stages(head: torch.nn.Module) -> list[torch.nn.Module]:
    return list(head) if isinstance(head, torch.nn.ModuleList) else [head]


def _forward(
    forward: Callable, found: list | None, at_once: int, *inputs: Any, **named: Any
) -> Any:
    """A mask head's forward, some detections at a time, which keeps the masks of their classes."""
    labels = torch.cat(found) if found is not None else None
    outputs, count = [], max(len(inputs[0]), 1)
    for start in range(0, count, at_once or count):
        rows = slice(start, start + (at_once or count))
        output = forward(*(v[rows] if torch.is_tensor(v) else v for v in inputs), **named)
        outputs.append(output if labels is None else _select(output, labels[rows]))
    if isinstance(outputs[0], list):
        return [torch.cat(each) for each in zip(*outputs, strict=True)]
    return torch.cat(outputs)


def _select(output: Any, labels: torch.Tensor) -> Any:
    """Logits (D, C, R, S) to (D, 1, R, S), alone or as HTC's heads give them, before features."""
    if isinstance(output, list):
        return [_select(output[0], labels), *output[1:]]
    return output[torch.arange(len(labels), device=labels.device), labels, None]


def _lazy(
    head: torch.nn.Module,
    mask_pred: torch.Tensor | np.ndarray,
    det_bboxes: torch.Tensor,
    det_labels: torch.Tensor,
    rcnn_test_cfg: Any,
    ori_shape: tuple[int, ...],
    scale_factor: torch.Tensor,
    rescale: bool,
) -> LazyMasks:
    """In the place of a mask head's ``get_seg_masks``.

    Args:
        head: the mask head.
        mask_pred: (D, 1, R, S), logits, or as an array the probabilities that stages agree on.
        det_bboxes: (D, 4) or (D, 5), in pixels of the image as the detector sees it.
        det_labels: (D,).
        rcnn_test_cfg: has ``mask_thr_binary``.
        ori_shape: height and width of the image.
        scale_factor: (4,), how much larger the detector sees it.
        rescale: must be true: masks at the size that the detector sees are not made.
    """
    assert rescale, "masks are made at the image's own size"
    if isinstance(mask_pred, torch.Tensor):
        mask_pred = mask_pred.sigmoid().cpu().numpy()
    return LazyMasks(
        mask_pred[:, 0],
        (det_bboxes[:, :4] / scale_factor.to(det_bboxes)).cpu().numpy(),
        det_labels.cpu().numpy(),
        head.num_classes,
        tuple(ori_shape[:2]),
        rcnn_test_cfg.mask_thr_binary,
    )
