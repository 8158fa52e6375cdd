"""RoIAlign on the CPU as two small matrix products.

Bilinear sampling is separable: with a fixed number of samples a bin, the pooled feature of a RoI is
``Wy @ feature @ Wx^T``, where row i of ``Wy`` (P, H) averages the bilinear weights of bin i's
samples. On small feature maps the two products beat torchvision's kernel, whose CPU backward
scatters one scalar at a time (Mask R-CNN, He et al. 2017, defines the operator).

B: images, C: channels, R: RoIs, H, W: feature map, P: output bins along one side, S: samples a bin.
"""

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
    size: tuple[int, int],
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Pools (B, C, H, W) features over (R, 5) RoIs (image, x1, y1, x2, y2) to (R, C, P, P)."""
    _, channels, height, width = features.shape
    rows, columns = _weights(rois, (height, width), size, spatial_scale, sampling_ratio, aligned)
    output = features.new_zeros(len(rois), channels, *size)
    for image, chosen in _by_image(rois):
        # One product for all RoIs of an image: (n P, H) @ (H, C W).
        pooled = rows[chosen].flatten(0, 1) @ features[image].transpose(0, 1).flatten(1)
        pooled = pooled.view(len(chosen), size[0] * channels, width)
        pooled = torch.bmm(pooled, columns[chosen].transpose(1, 2))
        output[chosen] = pooled.view(len(chosen), size[0], channels, size[1]).transpose(1, 2)
    return output


def separable_backward(
    grad: Tensor,
    rois: Tensor,
    shape: torch.Size,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Gradient (B, C, H, W) of the features from the gradient (R, C, P, P) of the pooled ones."""
    _, channels, height, width = shape
    size = (grad.shape[2], grad.shape[3])
    rows, columns = _weights(rois, (height, width), size, spatial_scale, sampling_ratio, aligned)
    result = grad.new_zeros(shape)
    for image, chosen in _by_image(rois):
        spread = grad[chosen].transpose(1, 2).reshape(len(chosen), size[0] * channels, size[1])
        spread = torch.bmm(spread, columns[chosen])
        spread = spread.view(len(chosen) * size[0], channels * width)
        image_grad = rows[chosen].flatten(0, 1).transpose(0, 1) @ spread
        result[image] = image_grad.view(height, channels, width).transpose(0, 1)
    return result


def _by_image(rois: Tensor) -> list[tuple[int, Tensor]]:
    images = rois[:, 0].long()
    return [(int(image), (images == image).nonzero().squeeze(1)) for image in images.unique()]


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
