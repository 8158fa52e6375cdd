"""The stand-ins for mmcv's compiled NMS and RoIAlign, against their definition."""

import sys

import numpy as np
import pytest
import torch
import torchvision

import gol.models  # noqa: F401  (installs the stand-ins)
from gol.compat import ops, roi_align


def bilinear(feature, y, x):
    """Value of a (H, W) float64 map at a point, as RoIAlign samples it."""
    height, width = feature.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = feature[top, left] * (1 - dx) + feature[top, right] * dx
    lower = feature[bottom, left] * (1 - dx) + feature[bottom, right] * dx
    return upper * (1 - dy) + lower * dy


def pooled(feature, roi, bins, scale, samples, aligned):
    """RoIAlign of one map and one box, sample by sample."""
    x1, y1, x2, y2 = roi * scale - (0.5 if aligned else 0)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1), max(height, 1)
    out = np.zeros((bins, bins))
    across_y = samples or max(int(np.ceil(height / bins)), 1)
    across_x = samples or max(int(np.ceil(width / bins)), 1)
    for i in range(bins):
        for j in range(bins):
            ys = y1 + height / bins * (i + (np.arange(across_y) + 0.5) / across_y)
            xs = x1 + width / bins * (j + (np.arange(across_x) + 0.5) / across_x)
            out[i, j] = np.mean([bilinear(feature, y, x) for y in ys for x in xs])
    return out


def random_case(seed, images=3, channels=2, height=11, width=14, count=6, scale=0.25):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(images, channels, height, width, generator=generator)
    corner = torch.rand(count, 2, generator=generator) * torch.tensor([width, height]) / scale - 6
    extent = torch.rand(count, 2, generator=generator) * 40
    image = torch.randint(images, (count, 1), generator=generator).float()
    return features, torch.cat([image, corner, corner + extent], 1)


@pytest.fixture(params=["separable", "torchvision"])
def kernel(request, monkeypatch):
    """Both ways to compute the same operator."""
    cells = 10**9 if request.param == "separable" else 0
    monkeypatch.setattr(roi_align, "MAX_MAP_CELLS", cells)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 1, 2, 3])
def test_roi_align_follows_its_definition(kernel, samples, aligned):
    from mmcv.ops import RoIAlign

    seed = np.random.SeedSequence().entropy % 2**32
    features, rois = random_case(seed, count=3)
    found = RoIAlign(3, 0.25, samples, aligned=aligned)(features, rois)
    for roi, result in zip(rois.double().numpy(), found, strict=True):
        for channel in range(2):
            feature = features[int(roi[0]), channel].double().numpy()
            expected = pooled(feature, roi[1:], 3, 0.25, samples, aligned)
            np.testing.assert_allclose(result[channel], expected, atol=1e-5, err_msg=f"seed {seed}")


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("count", [0, 1, 37])
@pytest.mark.parametrize("in_order", [False, True])  # mmdet's follow the images
def test_roi_align_gradient_equals_torchvisions(kernel, in_order, count, samples, aligned):
    from mmcv.ops import RoIAlign

    seed = np.random.SeedSequence().entropy % 2**32
    features, rois = random_case(seed, count=count)
    rois = rois[rois[:, 0].argsort()] if in_order else rois
    ours, theirs = features.clone().requires_grad_(), features.clone().requires_grad_()
    found = RoIAlign((7, 5), 0.25, samples, aligned=aligned)(ours, rois)
    expected = torchvision.ops.roi_align(theirs, rois, (7, 5), 0.25, samples or -1, aligned)
    assert found.shape == expected.shape == (count, 2, 7, 5)
    weight = torch.randn_like(found)
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5, msg=f"seed {seed}")
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-5, rtol=1e-5, msg=f"seed {seed}")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_roi_align_of_half_precision_features_keeps_exact_coordinates(kernel, dtype):
    from mmcv.ops import RoIAlign

    features, rois = random_case(0)
    rounded = features.to(dtype)
    found = RoIAlign(5, 0.25, 2)(rounded, rois)
    expected = RoIAlign(5, 0.25, 2)(rounded.float(), rois)
    assert found.dtype == dtype
    torch.testing.assert_close(found, expected.to(dtype))


def test_max_pooling_is_refused():
    from mmcv.ops import RoIAlign

    features, rois = random_case(0)
    with pytest.raises(RuntimeError, match="compiled ops"):
        RoIAlign(5, 0.25, 2, pool_mode="max")(features, rois)


def greedy(boxes, scores, threshold, offset):
    """Indices that greedy suppression keeps, in float64."""
    kept = []
    for i in np.argsort(-scores, kind="stable"):
        for j in kept:
            low = np.maximum(boxes[i, :2], boxes[j, :2])
            high = np.minimum(boxes[i, 2:], boxes[j, 2:])
            shared = np.prod(np.maximum(high - low + offset, 0))
            areas = [np.prod(boxes[k, 2:] - boxes[k, :2] + offset) for k in (i, j)]
            if shared / (sum(areas) - shared) > threshold:
                break
        else:
            kept.append(i)
    return kept


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("count", [0, 1, 60])
def test_nms_keeps_what_greedy_suppression_keeps(count, offset):
    from mmcv.ops import nms

    seed = np.random.SeedSequence().entropy % 2**32
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 30, (count, 2))
    boxes = np.hstack([corners, corners + generator.uniform(1, 25, (count, 2))]).astype(np.float32)
    scores = generator.permutation(count).astype(np.float32)
    _, found = nms(torch.from_numpy(boxes), torch.from_numpy(scores), 0.4, offset)
    assert found.tolist() == greedy(boxes.astype(float), scores, 0.4, offset), f"seed {seed}"


@pytest.mark.parametrize("name", ["deform_conv_forward", "softnms", "sigmoid_focal_loss_forward"])
def test_every_other_operator_names_the_way_to_compile(name):
    extension = sys.modules["mmcv._ext"]
    if not isinstance(extension, ops._Ops):
        pytest.skip("this mmcv-full has compiled ops")
    with pytest.raises(RuntimeError, match=f"'{name}' needs compiled ops.*--no-build-isolation"):
        getattr(extension, name)(1, 2)


def test_compiled_ops_are_used_where_they_exist(monkeypatch, tmp_path):
    folder = tmp_path / "mmcv"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "_ext.py").write_text("compiled = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.split(".")[0] == "mmcv"]:
        monkeypatch.delitem(sys.modules, name)
    assert ops.install() is False
    assert "mmcv._ext" not in sys.modules
