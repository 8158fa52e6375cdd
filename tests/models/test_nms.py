"""Detections from the best candidates alone, against mmdet's own function on the same outputs."""

from types import SimpleNamespace

import mmcv
import numpy as np
import pytest
import torch
from torch.overrides import TorchFunctionMode

import gol
from gol.errors import UserError
from gol.models import nms
from gol.models.postprocess import BBoxHead, set_postprocessing

SHAPE = (80, 120, 3)
SCALE = np.array([0.7, 0.71, 0.7, 0.71], np.float32)


@pytest.fixture(autouse=True)
def stable_reference(monkeypatch):
    """mmdet's last sort, whose order of equal scores is otherwise the processor's own."""
    sort = torch.Tensor.sort

    def stable(self, dim=-1, descending=False, stable=True):
        return sort(self, dim=dim, descending=descending, stable=stable)

    monkeypatch.setattr(torch.Tensor, "sort", stable)


def config(threshold=1e-4, most=300, **suppression):
    return mmcv.ConfigDict(
        score_thr=threshold,
        nms={"type": "nms", "iou_threshold": 0.5} | suppression,
        max_per_img=most,
    )


def outputs(rng, proposals, classes, agnostic=False, levels=None, background=0.0):
    """A head and its random outputs; with ``levels`` the logits have as many values only."""
    head = BBoxHead(in_channels=1, num_classes=classes, reg_class_agnostic=agnostic)
    corner = rng.uniform(-10, 1, (proposals, 2)) + rng.uniform(0, 1, (proposals, 2)) * (110, 70)
    box = np.concatenate([corner, corner + rng.uniform(0, 40, (proposals, 2))], 1)
    rois = np.concatenate([np.zeros((proposals, 1)), box.clip(0, (120, 80, 120, 80))], 1)
    logits = 2 * rng.standard_normal((proposals, classes + 1))
    if levels:
        logits = rng.integers(levels, size=logits.shape).astype(float)
    logits[:, -1] = background
    deltas = rng.standard_normal((proposals, 4 * (1 if agnostic else classes)))
    return head, *(torch.from_numpy(part.astype(np.float32)) for part in (rois, logits, deltas))


def both(head, rois, logits, deltas, cfg, shape=SHAPE, rescale=True):
    """mmdet's detections and ours."""
    arguments = (rois, logits, deltas, shape, SCALE, rescale, cfg)
    expected = BBoxHead.get_bboxes(head, *arguments)
    set_postprocessing(SimpleNamespace(roi_head=SimpleNamespace(bbox_head=head)))
    return expected, head.get_bboxes(*arguments)


def assert_same(expected, found):
    """Equal to the last bit, in the same order."""
    for one, other in zip(expected, found, strict=True):
        assert one.dtype == other.dtype and one.shape == other.shape
        assert torch.equal(one, other)


@pytest.mark.parametrize("agnostic", [False, True])
@pytest.mark.parametrize(
    ("proposals", "classes", "threshold", "levels", "background"),
    [
        (300, 203, 1e-4, None, 0),  # mmdet suppresses class by class
        (300, 203, 1e-4, 3, 0),  # hundreds of equal scores, at the last place too
        (200, 40, 1e-4, None, 0),  # mmdet suppresses all together
        (200, 40, 1e-3, 2, 0),
        (200, 64, 0.3, None, 3),  # some candidates
        (60, 1, 1e-4, None, 0),  # one class
        (1, 300, 1e-4, 1, 0),  # one proposal, one score
        (90, 70, 0.99, None, 9),  # none
    ],
)
def test_random_outputs(rng, proposals, classes, threshold, levels, background, agnostic):
    case = outputs(rng, proposals, classes, agnostic, levels, background)
    for rescale in (True, False):
        expected, found = both(*case, config(threshold), rescale=rescale)
        assert_same(expected, found)


@pytest.mark.parametrize("most", [1, 115, 5000])
def test_more_candidates_are_taken_until_enough_survive(rng, most):
    head, rois, logits, deltas = outputs(rng, 250, 120)
    rois[:] = torch.tensor([0.0, 20, 20, 60, 60])  # few of a class survive
    assert_same(*both(head, rois, logits, deltas, config(most=most)))


def test_the_largest_coordinate_may_be_that_of_a_bad_candidate(rng):
    for _ in range(4):
        head, rois, logits, deltas = outputs(rng, 150, 100)
        rois[:, 1:] = torch.from_numpy(rng.uniform(20, 30, (150, 1))) + torch.tensor([0, 0, 20, 20])
        logits[-1, :-1] -= 5
        rois[-1, 1:] = torch.tensor([30_000.0, 10, 30_050, 50])
        # Beside it float32 rounds other coordinates to parts of a pixel, which changes their IoU.
        case = (head, rois, logits, deltas * 0.1, config())
        assert_same(*both(*case, shape=(30_000, 40_000, 3)))


@pytest.mark.parametrize("kind", ["empty boxes", "inverted boxes", "the same box"])
def test_degenerate_boxes(rng, kind):
    for proposals in (50, 200):
        head, rois, logits, deltas = outputs(rng, proposals, 64, levels=4)
        if kind == "empty boxes":
            rois[::2, 3:] = rois[::2, 1:3]
        elif kind == "inverted boxes":
            rois[::2] = rois[::2][:, [0, 3, 4, 1, 2]]
        else:
            rois[:], deltas[:] = rois[0], 0
        assert_same(*both(head, rois, logits, deltas, config()))


def test_equal_scores_are_in_the_order_of_proposals_and_classes(rng):
    head, rois, logits, deltas = outputs(rng, 40, 300, levels=1)
    corner = torch.arange(40.0)[:, None] * torch.tensor([3.0, 2])
    rois[:, 1:] = torch.cat([corner, corner + 1], 1)
    _, (boxes, labels) = both(head, rois, logits, deltas * 0, config(most=700), rescale=False)
    assert labels.tolist() == [*range(300), *range(300), *range(100)]
    assert boxes[:, 0].tolist() == [0.0] * 300 + [3.0] * 300 + [6.0] * 100


def test_no_proposal_gives_no_detection(rng):
    head, rois, logits, deltas = outputs(rng, 1, 50)
    set_postprocessing(SimpleNamespace(roi_head=SimpleNamespace(bbox_head=head)))
    none = (part[:0] for part in (rois, logits, deltas))
    boxes, labels = head.get_bboxes(*none, SHAPE, SCALE, True, config())
    assert boxes.shape == (0, 5) and labels.shape == (0,)


@pytest.mark.parametrize(
    ("part", "name"), [(0, "proposals"), (1, "scores"), (2, "box regressions")]
)
def test_what_is_no_number_is_refused_in_one_line(rng, part, name):
    for proposals, value in ((9, float("inf")), (400, float("nan"))):
        head, *tensors = outputs(rng, proposals, 170)
        tensors[part][-1, 2] = value
        with pytest.raises(UserError, match=rf"^\d.* of [\d,]+ {name} of an image are not finite"):
            both(head, *tensors, config())


@pytest.mark.parametrize(
    "change",
    [
        {"class_agnostic": True},
        {"max_num": 30},
        {"score_threshold": 0.02},
        {"split_thr": 100},
        {"iou_threshold": 0.0},
        {"iou_threshold": 1.0},
    ],
)
def test_every_setting_of_the_suppression(rng, change):
    assert_same(*both(*outputs(rng, 120, 20), config(**change)))


def test_boxes_that_are_not_clipped_and_half_precision_are_left_to_mmdet(rng):
    head, *tensors = outputs(rng, 120, 100)
    assert_same(*both(head, *(part.double() for part in tensors), config()))
    assert_same(*both(head, *tensors, config(), shape=None))
    assert_same(*both(head, *tensors, config(), shape=(10**6, 10**6)))  # float32 mixes classes
    assert_same(*both(head, *tensors, None))
    head.bbox_coder.clip_border = False
    assert_same(*both(head, *tensors, config()))


class Calls(TorchFunctionMode):
    """Counts torch's functions, and those for which a GPU would have to be waited for."""

    WAIT = ("item", "tolist", "__float__", "__int__", "__bool__", "__index__", "nonzero", "nms")
    WAIT += ("unique", "masked_select", "cpu", "numpy")

    def __init__(self):
        super().__init__()
        self.all, self.waits = 0, []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.all += 1
        by_mask = any(isinstance(x, torch.Tensor) and x.dtype == torch.bool for x in args[1:])
        if function.__name__ in self.WAIT or (function.__name__ == "__getitem__" and by_mask):
            self.waits.append(function.__name__)
        return function(*args, **(kwargs or {}))


def test_a_gpu_is_waited_for_once_whatever_the_number_of_classes(rng, monkeypatch):
    def best(self, size):  # as on a GPU
        return nms._by_score(self._table.view(-1))[:size]

    monkeypatch.setattr(nms._Candidates, "_best", best)
    calls = {}
    for classes in (100, 400):
        head, *tensors = outputs(rng, 600, classes)
        assert_same(*both(head, *tensors, config()))
        with Calls() as calls[classes]:
            head.get_bboxes(*tensors, SHAPE, SCALE, True, config())
        assert calls[classes].waits == ["tolist", "nms"]  # the operator's own wait is the second
    assert calls[100].all == calls[400].all


def narrow(part):
    """Makes the layers of a RoI head's config few channels wide."""
    if isinstance(part, list):
        list(map(narrow, part))
    elif isinstance(part, dict):
        widths = {
            "in_channels": 8,
            "out_channels": 8,
            "conv_out_channels": 8,
            "fc_out_channels": 16,
        }
        part.update({key: value for key, value in widths.items() if key in part})
        list(map(narrow, part.values()))


@pytest.mark.parametrize("name", ["gumbel_cascade_r50_4x4_1x", "gumbel_htc_r101_4x4_1x"])
@pytest.mark.slow
def test_a_cascade_finds_what_it_found(rng, name):
    from mmdet.models import build_head

    model = gol.load_experiment(f"activations/gumbel/{name}").model
    narrow(model.roi_head)
    model.test_cfg.rcnn.max_per_img = 4  # each has 1,203 masks
    torch.manual_seed(int(rng.integers(2**31)))
    roi_head = build_head({**model.roi_head, "test_cfg": model.test_cfg.rcnn}).eval()
    for layer in roi_head.modules():
        if isinstance(layer, torch.nn.Linear):
            torch.nn.init.normal_(layer.weight, std=0.5)
    maps = [torch.randn(2, 8, 24 >> level, 32 >> level) for level in range(4)]
    corner = torch.rand(2, 30, 2) * torch.tensor([90.0, 60])
    boxes = torch.cat([corner, corner + 30, torch.rand(2, 30, 1)], 2)
    meta = {"img_shape": (96, 128, 3), "ori_shape": (48, 64, 3), "flip": False}
    meta["scale_factor"] = np.full(4, 2, np.float32)

    def detections():
        with torch.inference_mode():
            return roi_head.simple_test(maps, list(boxes), [meta, meta], rescale=True)

    expected = detections()
    set_postprocessing(SimpleNamespace(roi_head=roi_head))
    found = detections()
    for (one, masks), (other, other_masks) in zip(expected, found, strict=True):
        assert sum(map(len, one)) == 4
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
        for a, b in zip(masks, other_masks, strict=True):
            np.testing.assert_array_equal(a, b)
