"""RoIAlign on the CPU as two small matrix products.

Bilinear sampling is separable: with a fixed number of samples a bin, the pooled feature of a RoI is
``Wy @ feature @ Wx^T``, where row i of ``Wy`` (P, H) averages the bilinear weights of bin i's
samples. On small feature maps the two products beat torchvision's kernel, whose CPU backward
scatters one scalar at a time (Mask R-CNN, He et al. 2017, defines the operator).

B: images, C: channels, R: RoIs, H, W: feature map, P: output bins along one side, S: samples a bin.
"""

from itertools import accumulate

import torch
from torch import Tensor

# Measured by tests/benchmarks/bench_roi_align.py: above this the dense products do more work than
# the scattered samples that they replace.
MAX_MAP_CELLS = 128 * 128


def separable_pays(features: Tensor, sampling_ratio: int) -> bool:
    """Whether the two products are the faster way: on CPU, for a fixed grid and a small map."""
    cells = features.shape[-2] * features.shape[-1]
    return features.device.type == "cpu" and sampling_ratio > 0 and cells <= MAX_MAP_CELLS


def separable_forward(
    features: Tensor,
    rois: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    output: Tensor,
) -> None:
    """Pools (B, C, H, W) features over (R, 5) RoIs (image, x1, y1, x2, y2) into (R, C, P, P)."""
    _, channels, height, width = features.shape
    size = (output.shape[2], output.shape[3])
    rows, columns = _weights(rois, (height, width), size, spatial_scale, sampling_ratio, aligned)
    for image, chosen in _by_image(rois):
        # One product for all RoIs of an image: (n P, H) @ (H, C W).
        pooled = rows[chosen].flatten(0, 1) @ features[image].transpose(0, 1).flatten(1)
        pooled = pooled.view(-1, size[0] * channels, width)
        pooled = torch.bmm(pooled, columns[chosen].transpose(1, 2))
        pooled = pooled.view(-1, size[0], channels, size[1]).transpose(1, 2)
        output[chosen] = pooled.to(output.dtype)


def separable_backward(
    grad: Tensor,
    rois: Tensor,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    result: Tensor,
) -> None:
    """Fills the gradient (B, C, H, W) of the features from that of the pooled ones (R, C, P, P).

    What ``result`` holds of images without RoIs is left alone.
    """
    _, channels, height, width = result.shape
    size = (grad.shape[2], grad.shape[3])
    rows, columns = _weights(rois, (height, width), size, spatial_scale, sampling_ratio, aligned)
    for image, chosen in _by_image(rois):
        spread = grad[chosen].transpose(1, 2).reshape(-1, size[0] * channels, size[1])
        spread = torch.bmm(spread, columns[chosen])
        spread = spread.view(-1, channels * width)
        image_grad = rows[chosen].flatten(0, 1).transpose(0, 1) @ spread
        result[image] = image_grad.view(height, channels, width).transpose(0, 1)


def _by_image(rois: Tensor) -> list[tuple[int, slice | Tensor]]:
    """Each image that has RoIs, and where these are."""
    images, counts = rois[:, 0].unique_consecutive(return_counts=True)
    images, counts = images.long().tolist(), counts.tolist()
    if len(set(images)) == len(images):  # mmdet's RoIs: a slice is no copy
        ends = list(accumulate(counts))
        return [
            (image, slice(end - count, end))
            for image, count, end in zip(images, counts, ends, strict=True)
        ]
    return [(image, (rois[:, 0] == image).nonzero().squeeze(1)) for image in sorted(set(images))]


def _weights(
    rois: Tensor,
    map_size: tuple[int, int],
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    """Bilinear weights of the rows (R, P, H) and of the columns (R, P, W)."""
    boxes = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    starts, extents = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if not aligned:
        extents = extents.clamp(min=1.0)
    columns = _axis_weights(starts[:, 0], extents[:, 0], map_size[1], size[1], sampling_ratio)
    rows = _axis_weights(starts[:, 1], extents[:, 1], map_size[0], size[0], sampling_ratio)
    return rows, columns


def _axis_weights(start: Tensor, extent: Tensor, length: int, bins: int, samples: int) -> Tensor:
    """(R, bins, length): the mean weight that each cell has in the samples of each bin."""
    # The same order of float32 operations as torchvision, so that the positions are the same.
    bin_extent = (extent / bins)[:, None, None]
    bin_start = start[:, None, None] + torch.arange(bins, device=start.device)[:, None] * bin_extent
    sample = torch.arange(samples, device=start.device) + 0.5
    positions = bin_start + sample * bin_extent / samples  # (R, bins, samples)
    # The operator ignores samples more than one cell outside and clamps the others to the border.
    inside = (positions >= -1.0) & (positions <= length)
    positions = positions.clamp(0, length - 1)
    cells = torch.arange(length, device=start.device)
    weights = (1 - (positions[..., None] - cells).abs()).clamp(min=0) * inside[..., None]
    return weights.mean(2)
