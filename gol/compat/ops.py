"""The compiled mmcv operators that the detectors need, backed by torchvision's kernels.

``install()`` puts a module in place of ``mmcv._ext`` when mmcv-full was installed without compiled
ops; where compiled ops exist they are used and nothing happens. NMS and RoIAlign run on CPU and
CUDA; every other operator raises an error that names the way to compile it.

B: images, C: channels, R: RoIs, H, W: feature map, P: output bins along one side.
"""

import importlib.machinery
import importlib.util
import sys
from types import ModuleType
from typing import Any, NoReturn

import torch
import torchvision  # noqa: F401  (registers torch.ops.torchvision)
from torch import Tensor

from gol.compat.roi_align import separable_backward, separable_forward, separable_pays

_HOW_TO_COMPILE = (
    "mmcv operator '{name}' needs compiled ops, which this mmcv-full lacks: MMCV_WITH_OPS=1 "
    "pip install --no-build-isolation mmcv-full==1.7.2, with the compiler flags in the README"
)


def install() -> bool:
    """Registers the replacement; returns whether one was needed."""
    if importlib.util.find_spec("mmcv") is None or "mmcv._ext" in sys.modules:
        return False
    # find_spec("mmcv._ext") would import mmcv, which warns; its folder is enough.
    folder = importlib.util.find_spec("mmcv").submodule_search_locations
    if importlib.machinery.PathFinder.find_spec("mmcv._ext", folder):
        return False
    module = _Ops("mmcv._ext")
    module.__spec__ = importlib.machinery.ModuleSpec("mmcv._ext", loader=None)
    sys.modules["mmcv._ext"] = module
    return True


class _Ops(ModuleType):
    """Stands for mmcv's extension module, whose loader only asks whether each name exists."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _AVAILABLE.get(name) or _missing(name)


def _missing(name: str) -> Any:
    def operator(*args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError(_HOW_TO_COMPILE.format(name=name))

    return operator


def nms(bboxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Indices of the boxes that greedy suppression keeps, by descending score.

    Args:
        bboxes: (N, 4) as x1, y1, x2, y2.
        scores: (N,).
        iou_threshold: a box goes when its IoU with a better one is above this.
        offset: 0, or 1 for boxes that include their last pixel (width = x2 - x1 + 1).
    """
    if offset:
        bboxes = bboxes + bboxes.new_tensor([0, 0, 1, 1])
    return torch.ops.torchvision.nms(bboxes.float(), scores.float(), iou_threshold)


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills ``output`` (R, C, P, P) from ``input`` (B, C, H, W) and ``rois`` (R, 5: image, box)."""
    if pool_mode == 0:
        _missing("roi_align with pool_mode='max'")()
    size = (aligned_height, aligned_width)
    # The coordinates of a RoI need float32 also when the features are half precision.
    features, rois = input.float(), rois.float()
    if separable_pays(features, sampling_ratio):
        with torch.autocast("cpu", enabled=False):
            separable_forward(features, rois, spatial_scale, sampling_ratio, aligned, output)
    else:
        result = torch.ops.torchvision.roi_align(
            features, rois, spatial_scale, *size, sampling_ratio, aligned
        )
        output.copy_(result)


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Fills ``grad_input`` (B, C, H, W) from ``grad_output`` (R, C, P, P)."""
    size = (aligned_height, aligned_width)
    grad, rois, shape = grad_output.float(), rois.float(), grad_input.shape
    if separable_pays(grad_input, sampling_ratio):
        # mmcv has zeroed it.
        separable_backward(grad, rois, spatial_scale, sampling_ratio, aligned, grad_input)
    else:
        result = torch.ops.torchvision._roi_align_backward(
            grad, rois, spatial_scale, *size, *shape, sampling_ratio, aligned
        )
        grad_input.copy_(result)


def _not_compiled() -> str:
    """What mmdet's tools print as compiler of the operators."""
    return "not compiled"


_AVAILABLE = {
    "get_compiler_version": _not_compiled,
    "get_compiling_cuda_version": _not_compiled,
    "nms": nms,
    "roi_align_forward": roi_align_forward,
    "roi_align_backward": roi_align_backward,
}
