"""Every named experiment, and every pair of axis values, builds, trains a step and detects."""

import itertools
import json

import numpy as np
import pytest
import torch
import yaml

import gol
from gol.config.axes import AXES, DEFAULT_AXES, axis_values, load_dataset
from gol.data.demo.draw import draw_demo
from gol.data.loader import SeededDataset, load
from gol.data.preprocess import preprocess_dataset
from gol.errors import UserError
from gol.losses.class_statistics import ClassStatistics
from gol.models import build_dataset

LVIS = {"lvis_v1": "v1", "lvis_v0_5": "v0_5"}
PAPERS = [name for name in gol.experiments() if not name.startswith("demo/")]
# The others are many, or heavy.
QUICK = {
    "activations/r50_4x4_1x",
    "activations/gumbel/gumbel_fr50_4x4_1x_lvis05",
    "gol/droploss_normed_mask_r50_rfs_4x4_2x_gumbel",
}


@pytest.fixture(scope="module")
def lvis(tmp_path_factory):
    """Name of an LVIS dataset → a definition like it with a few small images."""
    made = {}

    def make(name):
        if name not in made:
            made[name] = small_lvis(tmp_path_factory.mktemp(name), name)
        return made[name]

    return make


def small_lvis(folder, name):
    draw_demo(folder / "raw", train_images=24, val_images=24, size=64)
    statistics = ClassStatistics.published(LVIS[name])
    rng = np.random.default_rng()
    ids = rng.choice(statistics.ids, 40, replace=False).tolist()
    for split in ("train", "val"):
        path = folder / "raw" / f"{split}.json"
        data = json.loads(path.read_text())
        old = {category["id"]: new for category, new in zip(data["categories"], ids, strict=True)}
        for annotation in data["annotations"]:
            annotation["category_id"] = old[annotation["category_id"]]
        for image in data["images"]:
            for key in ("neg_category_ids", "not_exhaustive_category_ids"):
                image[key] = [old[i] for i in image[key]]
        data["categories"] = [
            {"id": number, "name": f"class {number}", "frequency": group}
            for number, group in zip(statistics.ids, statistics.frequencies, strict=True)
        ]
        path.write_text(json.dumps(data))
    raw = folder / "raw"
    preprocess_dataset(
        raw / "train.json", raw / "train", raw / "val.json", raw / "val", folder / "data"
    )
    definition = load_dataset(name) | {"image_scales": [[64, 64]]}
    for split in ("train", "val"):
        definition[split] = {"annotations": str(raw / f"{split}.json"), "images": str(raw / split)}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(definition))
    return {"dataset": str(folder / f"{name}.yaml")}, folder / "data"


def build(config):
    """The detector with random weights: nothing is downloaded here."""
    config.model.backbone.init_cfg = None
    config.gol.weights = None
    return gol.build_detector(config)


def train_and_detect(config):
    """One training step on two images and the detections of one test image."""
    # A mask of each class for 300 detections of an untrained detector takes a gigabyte.
    config.model.test_cfg.rcnn.max_per_img = 20
    config.model.test_cfg.rcnn.score_thr = -1.0  # nothing that it finds is likely yet
    detector = build(config).train()
    train = SeededDataset(build_dataset(config.data.train), seed=0)
    (batch,) = load(train, [[(0, 0), (0, 1)]])
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.001)
    output = detector.train_step(batch, optimizer)
    assert torch.isfinite(output["loss"]) and output["num_samples"] == 2
    output["loss"].backward()
    gradients = {n: p.grad for n, p in detector.named_parameters() if p.requires_grad}
    without = [name for name, gradient in gradients.items() if gradient is None]
    assert not without
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert any(g.abs().max() > 0 for name, g in gradients.items() if "fc_cls" in name)
    optimizer.step()

    test = build_dataset(config.data.test, {"test_mode": True})
    (item,) = load(test, [[0]])
    with torch.inference_mode():
        (result,) = detector.eval()(return_loss=False, rescale=True, **item)
    boxes = result[0] if isinstance(result, tuple) else result
    classes = len(test.CLASSES)
    assert len(boxes) == classes
    assert 0 < sum(map(len, boxes)) <= 20
    if "mask_head" in config.model.roi_head:
        assert [len(masks) for masks in result[1]] == [len(rows) for rows in boxes]
    return detector


@pytest.mark.parametrize(
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in PAPERS]
)
def test_experiment_trains_a_step_and_detects(name, lvis):
    axes = gol.load_experiment(name).gol.axes
    overrides, prepared = lvis(axes.dataset)
    config = gol.load_experiment(name, overrides, prepared)
    detector = train_and_detect(config)
    heads = detector.roi_head.bbox_head
    for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
        background = 0 if axes.classifier.startswith(("droploss", "eql")) else 1
        assert head.fc_cls.weight.shape[0] == head.num_classes + background


def pairs():
    """Axis values such that each pair of values of two model axes stands in some combination."""
    axes = [axis for axis in AXES if axis not in ("dataset", "schedule", "backbone", "sampler")]
    values = {axis: list(axis_values(axis)) for axis in axes}
    missing = {
        frozenset({(a, x), (b, y)})
        for a, b in itertools.combinations(axes, 2)
        for x in values[a]
        for y in values[b]
    }
    rng = np.random.default_rng(0)
    while missing:
        start = dict(min(missing, key=sorted))
        best = max(
            (
                {axis: start.get(axis) or str(rng.choice(values[axis])) for axis in axes}
                for _ in range(50)
            ),
            key=lambda chosen: len(covered(chosen) & missing),
        )
        missing -= covered(best)
        yield best


def covered(chosen):
    return {frozenset(pair) for pair in itertools.combinations(chosen.items(), 2)}


@pytest.mark.slow
@pytest.mark.parametrize("axes", list(pairs()), ids=lambda axes: "-".join(axes.values()))
def test_combinations_that_nobody_published(axes, demo_data):
    """On the demo's small backbone, which shares all heads with the large ones."""
    boxes_only = axes["detector"] == "faster_rcnn"
    senseless = boxes_only and any(
        axes[axis] != DEFAULT_AXES[axis] for axis in ("mask_predictor", "masks")
    )
    if senseless:
        with pytest.raises(UserError, match="faster_rcnn, which has no masks; allowed: "):
            gol.load_experiment("demo/gumbel", axes, demo_data)
        return
    train_and_detect(gol.load_experiment("demo/gumbel", axes, demo_data))


@pytest.mark.slow
@pytest.mark.parametrize("backbone", axis_values("backbone"))
@pytest.mark.parametrize("detector", axis_values("detector"))
def test_every_backbone_in_every_detector(detector, backbone, demo_data):
    config = gol.load_experiment(
        "demo/gumbel", {"backbone": backbone, "detector": detector}, demo_data
    )
    train_and_detect(config)


def test_htc_droploss_normed_mask_swin(demo_data):
    """The combination of the issue, resolved: each axis value arrives at its place."""
    axes = {
        "detector": "htc",
        "backbone": "swin_t",
        "classifier": "droploss_gumbel",
        "mask_predictor": "normed",
    }
    model = gol.load_experiment("demo/gumbel", axes, demo_data).model
    assert model.type == "HybridTaskCascade" and model.backbone.type == "SwinTransformer"
    assert "depth" not in model.backbone  # nothing of the ResNet is left
    assert {head.loss_cls.type for head in model.roi_head.bbox_head} == {"DropLoss"}
    assert {head.predictor_cfg.type for head in model.roi_head.mask_head} == {"NormedConv2d"}
