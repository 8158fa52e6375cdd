"""The slow steps of mmdet's data pipelines, quicker and with the same result to the last bit.

:func:`quicken` puts them into the pipeline of one dataset; mmdet stays as it is for every other.
"""

import math
from collections.abc import Callable
from copy import copy
from functools import cached_property

import mmcv
import numpy as np
from mmdet.datasets.pipelines import (
    DefaultFormatBundle,
    ImageToTensor,
    LoadAnnotations,
    MultiScaleFlipAug,
    Normalize,
    Pad,
)

from gol.data.pixels import Pixels
from gol.data.run_length_masks import RunLengthMasks
from gol.errors import UserError

SMALL = 1 << 15  # pixels of an image below which mmdet's bitmaps are quicker
Step = Callable[[dict], dict | None]


def quicken(steps: list[Step]) -> list[Step]:
    """A pipeline's steps, with ours in the place of those that we have.

    Args:
        steps: mmdet's transforms, which are left as they are.
    """
    quick: list[Step] = []
    for step in steps:
        if type(step) is LoadAnnotations and step.with_mask and step.poly2mask:
            step = LoadRunLengths(step)
        elif type(step) is MultiScaleFlipAug:
            step, inner = copy(step), copy(step.transforms)
            step.transforms, inner.transforms = inner, quicken(inner.transforms)
        quick.append(step)
        if _are_format(quick[-3:]):
            quick[-3:] = [Format(*quick[-3:])]
    return quick


def _are_format(steps: list[Step]) -> bool:
    types = [type(step) for step in steps]
    if types not in ([Normalize, Pad, last] for last in (DefaultFormatBundle, ImageToTensor)):
        return False
    pad, last = steps[1:]
    if pad.size_divisor is None or pad.pad_val.get("img", 0):
        return False
    return last.keys == ["img"] if types[2] is ImageToTensor else not last.pad_val["img"]


class LoadRunLengths:
    """mmdet's LoadAnnotations, whose masks are :class:`RunLengthMasks` but in small images."""

    def __init__(self, step: LoadAnnotations) -> None:
        self.step, self.other = step, copy(step)
        self.other.with_mask = False

    def __call__(self, results: dict) -> dict | None:
        """Loads what mmdet loads.

        Raises:
            UserError: a mask is malformed or of another size, in images that are not small.
        """
        info = results["img_info"]
        height, width = info["height"], info["width"]
        if height * width < SMALL:
            return self.step(results)
        try:
            results["gt_masks"] = RunLengthMasks.of(results["ann_info"]["masks"], height, width)
        except (IndexError, TypeError, ValueError) as error:
            raise UserError(f"image {info['filename']}: {error}") from error
        results["mask_fields"].append("gt_masks")
        return self.other(results)


class Format:
    """Normalize, Pad, and DefaultFormatBundle or ImageToTensor: a pixel's value is looked up.

    Args:
        normalize: mmdet's Normalize.
        pad: mmdet's Pad to a multiple of pixels, with zeros.
        last: mmdet's DefaultFormatBundle, or its ImageToTensor for the key ``img``.
    """

    def __init__(self, normalize: Normalize, pad: Pad, last: Step) -> None:
        self.normalize, self.pad, self.last = normalize, pad, last
        self.settings = {key: getattr(normalize, key) for key in ("mean", "std", "to_rgb")}

    def __call__(self, results: dict) -> dict:
        """What the three steps make of ``results``; mmdet's own where it is no 8-bit RGB image."""
        pixels, divisor = results["img"], self.pad.size_divisor
        if (
            pixels.dtype != np.uint8
            or pixels.shape[2:] != (3,)
            or results.get("img_fields", ["img"]) != ["img"]
        ):
            return self.last(self.pad(self.normalize(results)))
        height, width = (math.ceil(side / divisor) * divisor for side in pixels.shape[:2])
        results["img_norm_cfg"] = dict(self.settings)
        results["pad_shape"] = (height, width, 3)
        results["pad_fixed_size"], results["pad_size_divisor"] = None, divisor
        self.pad._pad_masks(results)
        self.pad._pad_seg(results)
        del results["img"]
        image = Pixels(pixels, self._tables, (height, width), self.normalize.to_rgb)
        if isinstance(self.last, ImageToTensor):
            return results | {"img": image.data}
        return self.last(results) | {"img": image}

    @cached_property
    def _tables(self) -> np.ndarray:
        """(3, 256) float32: each value of a pixel, normalised, by channel of the pixel."""
        every = np.arange(256, dtype=np.uint8)[:, None, None].repeat(3, 2)
        tables = mmcv.imnormalize(every, **self.settings)[:, 0].T
        return np.ascontiguousarray(tables[:: -1 if self.normalize.to_rgb else 1])
