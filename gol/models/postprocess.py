"""What a detector does with an image's last outputs, quicker than mmdet and with the same result.

:func:`set_postprocessing` puts it into one detector, through mmdet's own interfaces; mmdet stays as
it is for every other.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from mmdet.core.bbox.coder import DeltaXYWHBBoxCoder
from mmdet.models.roi_heads.bbox_heads.bbox_head import BBoxHead
from torch import Tensor

from gol.errors import UserError
from gol.models.nms import Boxes, best_detections, detections_above

_APART = 1 << 23  # pixels over all classes: float32 keeps them apart up to here
_KNOWN = {"type", "iou_threshold", "split_thr"}  # of test_cfg.rcnn.nms


def set_postprocessing(detector: torch.nn.Module) -> None:
    """Makes the box heads choose their detections by :mod:`gol.models.nms`.

    Heads with boxes or a ``get_bboxes`` of their own are left as they are.

    Args:
        detector: an mmdet two-stage detector.
    """
    heads = detector.roi_head.bbox_head
    for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
        if _is_ours(head):
            head.get_bboxes = partial(_get_bboxes, head)


def _is_ours(head: torch.nn.Module) -> bool:
    usual = type(head).get_bboxes is BBoxHead.get_bboxes
    return usual and type(head.bbox_coder) is DeltaXYWHBBoxCoder


def set_floors(detector: torch.nn.Module, floors: Tensor) -> None:
    """Makes a detector give all detections from a score of their class on, of an image any number.

    Args:
        detector: as :func:`set_postprocessing` has left it.
        floors: (C,) float32.

    Raises:
        UserError: it chooses its detections by its own rules.
    """
    heads = detector.roi_head.bbox_head
    last = heads[-1] if isinstance(heads, torch.nn.ModuleList) else heads
    if not _usual(detector.roi_head.test_cfg, last.bbox_coder) or not _is_ours(last):
        raise UserError(
            "detections of each class without a limit of the image need boxes, suppression and a "
            "limit as in mmdet's own configs of two-stage detectors; this detector has others"
        )
    last.floors = floors


def _get_bboxes(
    head: BBoxHead,
    rois: Tensor,
    cls_score: Tensor,
    bbox_pred: Tensor | None,
    img_shape: Sequence[int],
    scale_factor: Any,
    rescale: bool = False,
    cfg: Any = None,
) -> tuple[Tensor, Tensor]:
    """mmdet's ``BBoxHead.get_bboxes``: the same arguments, the same results.

    mmdet itself answers what is not asked here: another kind of suppression, half precision, boxes
    that are not clipped to the image, or so many pixels that float32 mixes classes.

    Raises:
        UserError: as :func:`gol.models.nms.best_detections`; floors where mmdet must answer.
    """
    found = candidates(head, rois, cls_score, bbox_pred, img_shape, scale_factor, rescale, cfg)
    floors = getattr(head, "floors", None)
    if found is None:
        if floors is not None and bbox_pred is not None:
            raise UserError(
                f"images of {img_shape[0]} x {img_shape[1]} pixels: float32 mixes their classes"
            )
        return BBoxHead.get_bboxes(
            head, rois, cls_score, bbox_pred, img_shape, scale_factor, rescale, cfg
        )
    scores, boxes = found
    threshold = cfg.nms.get("iou_threshold")
    if floors is not None:
        return detections_above(scores, boxes, floors, threshold)
    return best_detections(scores, boxes, cfg.score_thr, threshold, cfg.max_per_img)


def candidates(
    head: BBoxHead,
    rois: Tensor,
    cls_score: Tensor,
    bbox_pred: Tensor | None,
    img_shape: Sequence[int],
    scale_factor: Any,
    rescale: bool = False,
    cfg: Any = None,
) -> tuple[Tensor, Boxes] | None:
    """The scores (N, C + 1) and boxes among which an image's detections are chosen.

    Args: those of mmdet's ``BBoxHead.get_bboxes``.

    Returns:
        None where mmdet itself must choose.
    """
    if bbox_pred is None or img_shape is None or not _usual(cfg, head.bbox_coder):
        return None
    # Without regression and config mmdet returns the scores that belong to the logits.
    scores = BBoxHead.get_bboxes(head, rois, cls_score, None, None, scale_factor)[1]
    classes, boxes = scores.shape[1] - 1, bbox_pred.shape[1] // 4
    height, width = img_shape[:2]
    factor = np.float32(scale_factor if rescale else 1)
    highest = float((np.float32([width, height, width, height]) / factor).max())
    single = all(values.dtype == torch.float32 for values in (rois, scores, bbox_pred))
    if not single or boxes not in (1, classes) or classes * (highest + 1) > _APART:
        return None
    return scores, Boxes(
        rois=rois[:, 1:],
        deltas=bbox_pred.view(len(rois), boxes, 4),
        decode=partial(head.bbox_coder.decode, max_shape=img_shape),
        scale=rois.new_tensor(factor),
        highest=highest,
    )


def _usual(cfg: Any, coder: DeltaXYWHBBoxCoder) -> bool:
    """Whether detections are chosen as in mmdet's own configs of two-stage detectors."""
    if cfg is None or not cfg.get("nms") or not coder.clip_border:
        return False
    plain = cfg.nms.get("type", "nms") == "nms" and set(cfg.nms) <= _KNOWN
    return plain and cfg.nms.get("iou_threshold", -1) >= 0 and cfg.max_per_img > 0
