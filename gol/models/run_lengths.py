"""From a detector's small masks to COCO run lengths, without drawing them at the image's size.

mmdet enlarges every mask bilinearly, pixel by pixel, and compares with a threshold. Bilinear means
linear down each column between two rows of the small mask, so a column changes sides at most once
there and the place is solved for, not searched: the cost follows the outlines' lengths, not the
areas. mmdet's pixels are rounded to float32; those that the rounding may decide are computed as
mmdet does, and so the run lengths are the same.

Shapes: N: masks, R × C: rows and columns of a small mask, H × W: of the image, K: any number.
A cell lies between four neighbours of a small mask, around which is a ring of zeros.
"""

from itertools import pairwise

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch.nn.functional import grid_sample

Rle = dict[str, list[int] | str]
Array = np.ndarray

_ROUNDING = 1e-6  # of a pixel's value in float32, at most, by row or column of the small mask
_COLUMNS = 1 << 15  # of pixels at once, a mask counting as 512 more: the arrays fit the cache


@np.errstate(all="ignore")  # of what is no number, or is divided by no size
def encode(masks: Array, boxes: Array, size: tuple[int, int], threshold: float = 0.5) -> list[Rle]:
    """The run lengths of N masks, each pasted into an image where its box is.

    They are those of mmdet's paste on the CPU, which looks no further than a pixel around the box.
    A box outside the image or with NaN has an empty mask; mmdet fails there.

    Args:
        masks: (N, R, C) float32, probabilities. What touches NaN is not set.
        boxes: (N, 4) float32, x1, y1, x2, y2 in pixels of the image.
        size: H, W.
        threshold: least probability of a pixel that is set.

    Returns:
        N times ``size`` [H, W] and ``counts``, compressed.
    """
    if not len(masks):
        return []
    columns = np.clip(np.nan_to_num(boxes[:, 2] - boxes[:, 0]), 0, size[1]) + 512
    bounds = np.flatnonzero(np.diff(np.cumsum(columns) // _COLUMNS)) + 1
    parts = zip(np.split(masks, bounds), np.split(boxes, bounds), strict=True)
    return [rle for part in parts for rle in _encode(_Paste(*part, size, threshold))]


class _Paste:
    """Masks, their boxes, and the pixels of the image that each may set."""

    def __init__(self, masks: Array, boxes: Array, size: tuple[int, int], threshold: float) -> None:
        self.masks, self.size, self.threshold = np.ascontiguousarray(masks), size, threshold
        self.rounding = _ROUNDING * max(masks.shape[1:])
        self.begin, self.extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
        image = np.array(size[::-1])
        self.first = _clipped(np.floor(boxes[:, :2]) - 1, image)  # (N, 2), x and y
        self.after = np.maximum(_clipped(np.ceil(boxes[:, 2:]) + 1, image), self.first)

    @property
    def doubtful(self) -> Array:
        """(N,) bool: masks whose outlines cannot be solved for."""
        plain = ((self.masks >= 0) & (self.masks <= 1)).all((1, 2))
        plain &= (np.isfinite(self.extent) & (self.extent >= 1)).all(1)
        plain &= self.threshold > 2 * self.rounding  # else the ring of zeros may be set
        return ~plain

    def pixels(self, axis: int) -> tuple[Array, Array]:
        """Where the small masks' first columns (axis 0) or rows (1) are, and how far apart."""
        scale = self.extent[:, axis].astype(float) / self.masks.shape[2 - axis]
        return self.begin[:, axis] + (scale - 1) / 2, scale

    def exact(self, mask: Array, x: Array, y: Array) -> Array:
        """Whether pixels are set, in mmdet's arithmetic: (K,) bool; ``mask`` (K,) ascends."""
        grid = np.stack([x, y], 1).astype(np.float32) + np.float32(0.5)
        grid = (grid - self.begin[mask]) / self.extent[mask] * 2 - 1
        grid[np.isinf(grid)] = 0
        values = np.empty(len(mask), np.float32)
        bounds = np.searchsorted(mask, np.arange(len(self.masks) + 1)).tolist()
        for small, (start, end) in zip(self.masks, pairwise(bounds), strict=True):
            if start < end:
                points = torch.from_numpy(grid[None, None, start:end])
                small_mask = torch.from_numpy(small[None, None])
                values[start:end] = grid_sample(small_mask, points, align_corners=False)[0, 0, 0]
        return values >= self.threshold


def _clipped(value: Array, image: Array) -> Array:
    return np.clip(np.nan_to_num(value.astype(float)), 0, image).astype(np.int64)


def _encode(paste: _Paste) -> list[Rle]:
    doubtful = paste.doubtful
    mask, place, state = _outlines(paste, ~doubtful)
    if doubtful.any():
        parts = [(mask, place, state), *(_drawn(paste, i) for i in np.flatnonzero(doubtful))]
        mask, place, state = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
        order = np.argsort(mask, kind="stable")
        mask, place, state = mask[order], place[order], state[order]
    # The last of several at one place counts, and of those only what changes the state.
    end = paste.size[0] * paste.size[1]
    last = np.flatnonzero(np.diff(mask * (end + 1) + place, append=-1))
    mask, place, state = mask[last], place[last], state[last]
    change = np.flatnonzero(np.diff(state, prepend=False) & (place < end))
    return _compressed(mask[change], place[change], paste)


def _compressed(mask: Array, place: Array, paste: _Paste) -> list[Rle]:
    """RLEs from the places in ascending order where each mask begins or ends."""
    number, (height, width) = len(paste.masks), paste.size
    after = np.searchsorted(mask, np.arange(number), side="right") + np.arange(number)
    ends = np.empty(len(place) + number, np.int64)
    ends[np.arange(len(place)) + mask] = place
    ends[after] = height * width
    begins = np.append(0, ends[:-1])
    begins[after[:-1] + 1] = 0
    runs = np.split(ends - begins, after[:-1] + 1)
    size = [height, width]
    rles = coco_mask.frPyObjects([{"size": size, "counts": each} for each in runs], height, width)
    return [{"size": size, "counts": rle["counts"].decode("ascii")} for rle in rles]


def _drawn(paste: _Paste, index: int) -> tuple[Array, Array, Array]:
    """What :func:`_outlines` returns, of one mask, by computing each of its pixels."""
    (left, top), (right, bottom) = paste.first[index], paste.after[index]
    columns, rows = np.arange(left, right), np.arange(top, bottom + 1)
    x, y = np.repeat(columns, len(rows)), np.tile(rows, len(columns))
    mask = np.full(len(x), index)
    state = paste.exact(mask, x, y) & (y < bottom)
    change = np.flatnonzero(np.diff(state, prepend=False))
    return mask[change], (x * paste.size[0] + y)[change], state[change]


def _outlines(paste: _Paste, wanted: Array) -> tuple[Array, Array, Array]:
    """Where the columns of the wanted masks may change sides, in order.

    Returns:
        mask, place down the columns and whether the pixels from there on are set, each (K,).
    """
    mixed, corners = _mixed(paste, wanted)
    mask_of, _, row_of = np.nonzero(mixed)
    cell, x, above, below = _crossings(paste, mixed, corners)
    # Pixel rows: a cell's beginning, first inside and first below, none outside the box.
    origin, scale = (array[mask_of] for array in paste.pixels(1))
    begin = origin + (row_of - 1) * scale
    low, high = paste.first[mask_of, 1], paste.after[mask_of, 1]
    first = np.clip(np.ceil(begin), low, high)
    after = np.clip(np.ceil(origin + row_of * scale), low, high)
    # Pixels from ``start`` to before ``stop`` are within rounding of the threshold.
    slope = (below - above) / scale[cell]
    slope[slope == 0] = 1e-30
    middle = (paste.threshold - above) / slope + begin[cell]
    reach = paste.rounding / np.abs(slope)
    first, after = first[cell], after[cell]
    start = np.clip(np.ceil(middle - reach), first, after).astype(np.int64)
    stop = np.clip(np.floor(middle + reach) + 1, start, after).astype(np.int64)
    owner, number = _expand(stop - start + 1)
    mask, x, y = mask_of[cell][owner], x[owner], start[owner] + number
    state = (below >= paste.threshold)[owner]
    unsure = np.flatnonzero(y < stop[owner])
    state[unsure] = paste.exact(mask[unsure], x[unsure], y[unsure])
    return mask, x * paste.size[0] + y, state


def _mixed(paste: _Paste, wanted: Array) -> tuple[Array, list[Array]]:
    """The cells with values at both sides of the threshold, or near it.

    Returns:
        Whether it is one, by mask, column and row (N, C + 1, R + 1) bool, and in the same form the
        values at the cells' corners: upper left, lower left, upper right, lower right.
    """
    ring = np.pad(paste.masks.transpose(0, 2, 1), ((0, 0), (1, 1), (1, 1)))
    left, right = ring[:, :-1], ring[:, 1:]
    least, most = np.minimum(left, right), np.maximum(left, right)
    mixed = np.minimum(least[..., :-1], least[..., 1:]) <= paste.threshold + 2 * paste.rounding
    mixed &= np.maximum(most[..., :-1], most[..., 1:]) >= paste.threshold - 2 * paste.rounding
    corners = [side[..., rows] for side in (left, right) for rows in (slice(-1), slice(1, None))]
    return mixed & wanted[:, None, None], corners


def _crossings(
    paste: _Paste, mixed: Array, corners: list[Array]
) -> tuple[Array, Array, Array, Array]:
    """Where pixel columns pass through the threshold, or near it, within a mixed cell.

    Returns:
        The cell, the column, and the values above and below the cell in that column, each (K,).
    """
    cells = mixed.sum(2)
    mask, strip = np.nonzero(cells)  # strips between two columns of a small mask
    cells = cells[mask, strip]
    origin, scale = (array[mask] for array in paste.pixels(0))
    begin, end = origin + (strip - 1) * scale, origin + strip * scale
    low, high = paste.first[mask, 0], paste.after[mask, 0]
    left, right = (np.clip(np.ceil(edge), low, high).astype(np.int64) for edge in (begin, end))
    column, number = _expand(right - left)
    x = left[column] + number
    share = (x - begin[column]) / scale[column]
    piece, number = _expand(cells[column])
    cell = (np.cumsum(cells) - cells)[column][piece] + number
    share = share[piece]
    upper, lower, right_upper, right_lower = (corner[mixed].astype(float) for corner in corners)
    above = upper[cell] + share * (right_upper - upper)[cell]
    below = lower[cell] + share * (right_lower - lower)[cell]
    near = np.minimum(above, below) <= paste.threshold + paste.rounding
    near &= np.maximum(above, below) >= paste.threshold - paste.rounding
    near = np.flatnonzero(near)
    return cell[near], x[piece[near]], above[near], below[near]


def _expand(counts: Array) -> tuple[Array, Array]:
    """For each of the ``counts[i]`` items of i: i, and its number among them."""
    owner = np.repeat(np.arange(len(counts)), counts)
    return owner, np.arange(len(owner)) - (np.cumsum(counts) - counts)[owner]
