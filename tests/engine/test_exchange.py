"""Gradients of several ranks: the sum that one process makes, bit for bit, on the CPU."""

import importlib.util
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
import torch
from few_proposals import few_proposals
from rank_processes import run_ranks

GRADIENTS = """
import sys, torch
from gol.engine.distributed import join
from gol.engine.exchange import Exchange

torch.manual_seed(int(sys.argv[1]))
parts = torch.nn.Conv2d(3, 5, 3), torch.nn.Flatten(), torch.nn.Tanh(), torch.nn.Linear(20, 1)
# A bucket of DDP's holds a gradient in its parameter's memory format.
model = torch.nn.Sequential(*parts).to(memory_format=torch.channels_last)
found = []
with join("cpu") as ranks:
    exchange = Exchange(model, ranks)
    for count in (4, 1, 3, 6):  # DDP rearranges its buckets after the first
        batches = torch.randn(count, 7, 3, 4, 4) * 10 ** torch.randn(count, 1, 1, 1, 1)
        model.zero_grad(set_to_none=True)
        turns = -(-count // ranks.world)
        for turn in range(turns):
            number = turn * ranks.world + ranks.rank
            with exchange.accumulate(last=turn == turns - 1):
                loss = exchange.model(batches[number % count]).square().mean()
                (loss * (number < count) / count * exchange.factor).backward()
        found += [p.grad.clone() for p in model.parameters()]
torch.save(found, f"{sys.argv[2]}/{ranks.world}.{ranks.rank}.pt")
"""


@pytest.mark.parametrize("many", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_gradients_are_those_of_one_process(many, tmp_path):
    seed = str(np.random.default_rng().integers(2**31))
    for world in (1, many):
        run_ranks(world, "-c", GRADIENTS, seed, tmp_path)
    expected = torch.load(tmp_path / "1.0.pt")
    assert len(list(tmp_path.iterdir())) == 1 + many
    for path in tmp_path.iterdir():
        assert all(map(torch.equal, torch.load(path), expected)), f"{path.name}, seed {seed}"


@pytest.fixture(
    scope="module",
    params=[
        "_base_/models/mask_rcnn_r50_fpn.py",
        "_base_/models/cascade_mask_rcnn_r50_fpn.py",
        "htc/htc_without_semantic_r50_fpn_1x_coco.py",
    ],
)
def detector(request):
    """A detector of mmdet's, as it comes."""
    from gol.models import build_detector  # makes mmcv and mmdet ready to be imported

    folder = Path(importlib.util.find_spec("mmdet").origin).parent / ".mim/configs"
    found = import_module("mmcv").Config.fromfile(str(folder / request.param))
    found.model.backbone.init_cfg = None
    few_proposals(found.model)
    return build_detector(found).train()


@pytest.mark.slow
@pytest.mark.parametrize("objects", [2, 0])
def test_every_parameter_has_a_gradient_with_and_without_objects(detector, objects):
    """DDP would wait in vain for one that has none."""
    masks = import_module("mmdet.core").BitmapMasks
    shape = {key: (128, 128, 3) for key in ("img_shape", "pad_shape", "ori_shape")}
    losses = detector(
        img=torch.randn(1, 3, 128, 128),
        img_metas=[{**shape, "scale_factor": np.ones(4, np.float32), "flip": False}],
        gt_bboxes=[torch.tensor([[5.0, 5, 60, 60], [20, 30, 100, 90]])[:objects]],
        gt_labels=[torch.tensor([1, 2])[:objects]],
        gt_masks=[masks(np.ones((objects, 128, 128), np.uint8), 128, 128)],
    )
    total = sum(
        part.mean()
        for name, value in losses.items()
        if "loss" in name
        for part in (value if isinstance(value, list) else [value])
    )
    detector.zero_grad(set_to_none=True)
    total.backward()
    missing = [k for k, p in detector.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing
