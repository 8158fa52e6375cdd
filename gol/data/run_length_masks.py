"""Training masks that are drawn where a RoI asks, and there to the last bit as mmdet draws them.

mmdet draws every mask at the image's size, and enlarges, flips and pads each of these bitmaps. It
does so without interpolation: a row or a column of the result is one of the annotation's. Which one
is all that is kept here, for all masks of an image together.

Shapes: G: masks of an image, H × W: their size now, S: spans of a mask, R: RoIs.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import mmcv
import numpy as np
import torch
from mmcv.ops import roi_align
from mmdet.core import BitmapMasks
from torch import Tensor

from gol.data.masks import spans


class RunLengthMasks(BitmapMasks):
    """mmdet's BitmapMasks, of which only what is looked at is drawn.

    ``masks``, and whatever mmdet computes from it (a rotation, areas), draws all of them.

    Args:
        spans: G times (S, 3), as :func:`gol.data.masks.spans` gives them.
        rows: (H,) the annotation's row in each row now, -1 in those outside the image.
        columns: (W,) the same of the columns.
    """

    def __init__(self, spans: Sequence[np.ndarray], rows: np.ndarray, columns: np.ndarray) -> None:
        self.spans, self.rows, self.columns = spans, rows, columns
        self.height, self.width = len(rows), len(columns)

    @classmethod
    def of(cls, segmentations: Iterable[Any], height: int, width: int) -> Self:
        """The masks of an image of COCO polygons and RLEs, compressed or not.

        Raises:
            ValueError: an RLE is malformed or of another size.
        """
        found = [spans(segmentation, height, width) for segmentation in segmentations]
        return cls(found, np.arange(height, dtype=np.int32), np.arange(width, dtype=np.int32))

    @property
    def masks(self) -> np.ndarray:
        """(G, H, W) uint8, drawn anew each time."""
        drawn = np.zeros((len(self), self.height, self.width), np.uint8)
        for mask, index in zip(drawn, range(len(self)), strict=True):
            rows, columns, pixels = self._draw(index)
            mask[rows, columns] = pixels
        return drawn

    def __len__(self) -> int:
        return len(self.spans)

    def __getitem__(self, index: Any) -> Self:
        chosen = np.arange(len(self))[index].reshape(-1)
        return type(self)([self.spans[i] for i in chosen], self.rows, self.columns)

    def rescale(self, scale: Any, interpolation: str = "nearest") -> BitmapMasks:
        """mmdet's method."""
        width, height = mmcv.rescale_size((self.width, self.height), scale)
        return self.resize((height, width), interpolation)

    def resize(self, out_shape: Sequence[int], interpolation: str = "nearest") -> BitmapMasks:
        """mmdet's method."""
        if interpolation != "nearest":
            return super().resize(out_shape, interpolation)
        height, width = out_shape
        rows = mmcv.imresize(self.rows[:, None], (1, height), interpolation="nearest")
        columns = mmcv.imresize(self.columns[None], (width, 1), interpolation="nearest")
        return type(self)(self.spans, rows.ravel(), columns.ravel())

    def flip(self, flip_direction: str = "horizontal") -> Self:
        """mmdet's method."""
        rows, columns = self.rows, self.columns
        if flip_direction in ("vertical", "diagonal"):
            rows = rows[::-1]
        if flip_direction in ("horizontal", "diagonal"):
            columns = columns[::-1]
        return type(self)(self.spans, rows, columns)

    def pad(self, out_shape: Sequence[int], pad_val: int = 0) -> BitmapMasks:
        """mmdet's method."""
        if pad_val:
            return super().pad(out_shape, pad_val)
        return self.expand(*out_shape, 0, 0)

    def crop(self, bbox: np.ndarray) -> Self:
        """mmdet's method."""
        left, top, right, bottom = np.clip(bbox, 0, [self.width, self.height] * 2)
        rows, columns = slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))
        return type(self)(self.spans, self.rows[rows], self.columns[columns])

    def expand(self, expanded_h: int, expanded_w: int, top: int, left: int) -> Self:
        """mmdet's method."""
        rows, columns = np.full(expanded_h, -1, np.int32), np.full(expanded_w, -1, np.int32)
        rows[top : top + self.height] = self.rows
        columns[left : left + self.width] = self.columns
        return type(self)(self.spans, rows, columns)

    def crop_and_resize(
        self,
        bboxes: Any,
        out_shape: Sequence[int],
        inds: Any,
        device: Any = "cpu",
        interpolation: str = "bilinear",
        binarize: bool = True,
    ) -> BitmapMasks:
        """mmdet's method: the same RoIAlign, at the same places, of each wanted mask once.

        Args:
            bboxes: (R, 4) float32, x1, y1, x2, y2, an array or a tensor.
            out_shape: height and width of the result.
            inds: (R,) the mask of each RoI.
            device: where it is computed.
            interpolation: not used, as in mmdet.
            binarize: whether to compare with 0.5.
        """
        if not len(self) or not len(bboxes):
            return BitmapMasks([], *out_shape)
        boxes = torch.as_tensor(bboxes, device=device)
        used, owner = np.unique(torch.as_tensor(inds).cpu().numpy(), return_inverse=True)
        rois = torch.cat([torch.from_numpy(owner).to(boxes)[:, None], boxes], 1)
        targets = roi_align(self._canvas(used, boxes), rois, out_shape, 1.0, 0, "avg", True)[:, 0]
        targets = targets >= 0.5 if binarize else targets
        return BitmapMasks(targets.cpu().numpy(), *out_shape)

    def _canvas(self, used: np.ndarray, like: Tensor) -> Tensor:
        """(len(used), 1, H, W) the masks ``used``, of the type and on the device of ``like``."""
        shape = (len(used), 1, self.height, self.width)
        # The pages of NumPy's zeros that nothing is drawn on take no memory, nor time; torch's do.
        canvas = (
            torch.from_numpy(np.zeros(shape, np.float32)) if like.is_cpu else like.new_zeros(shape)
        )
        for image, index in zip(canvas[:, 0], used, strict=True):
            rows, columns, pixels = self._draw(index)
            image[rows, columns] = torch.from_numpy(pixels)
        return canvas.to(like.dtype)

    def _draw(self, index: int) -> tuple[slice, slice, np.ndarray]:
        """The rows and columns that a mask lies in, and its pixels there."""
        column, top, bottom = self.spans[index].T
        if not len(column):
            return slice(0), slice(0), np.zeros((0, 0), np.int8)
        left, first = column[0], top.min()
        pixels = np.zeros((column[-1] + 1 - left, bottom.max() + 1 - first), np.int8)
        pixels[column - left, top - first] += 1
        pixels[column - left, bottom - first] -= 1
        np.cumsum(pixels, 1, np.int8, pixels)
        columns = _places(self.columns, left, left + len(pixels))
        rows = _places(self.rows, first, first + pixels.shape[1] - 1)
        pixels = pixels[self.columns[columns] - left].T
        return rows, columns, pixels[self.rows[rows] - first]


def _places(source: np.ndarray, first: int, after: int) -> slice:
    """Where ``source``, which but for its ends ascends or descends, is from ``first`` on."""
    places = np.flatnonzero((source >= first) & (source < after))
    return slice(places[0], places[-1] + 1) if len(places) else slice(0)
