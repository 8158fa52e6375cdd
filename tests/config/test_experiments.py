"""Every named experiment, and every pair of axis values, builds, trains a step and detects."""

import itertools
import json

import numpy as np
import pytest
import torch
import yaml
from few_proposals import few_proposals

import gol
from gol.config.axes import AXES, Axes, axis_values
from gol.config.experiments import experiment
from gol.data.demo.draw import draw_demo
from gol.data.loader import SeededDataset, load
from gol.data.preprocess import preprocess_dataset
from gol.errors import UserError
from gol.losses.class_statistics import ClassStatistics
from gol.models import build_dataset

LVIS = {"lvis_v1": "v1", "lvis_v0_5": "v0_5"}
PAPERS = [name for name in gol.experiments() if not name.startswith(("demo/", "own"))]
# The others are many, or heavy.
QUICK = {"activations/gumbel/gumbel_fr50_4x4_1x_lvis05"}
MASK_AXES = ("mask_predictor", "masks")


def by_model():
    """Experiments whose axes name the same detector and the same images, each list once.

    That `test_experiments_of_one_model_resolve_to_the_same` sees in their resolved configs.
    """
    schedules, found = axis_values("schedule"), {}
    for name in PAPERS:
        axes = dict(experiment(name).axes)
        axes["schedule"] = schedules[axes["schedule"]]["augmentation"]
        key = tuple(axes[axis] for axis in AXES if axis not in ("sampler", "precision"))
        found.setdefault(key, []).append(name)
    return [sorted(names, key=lambda name: name not in QUICK) for names in found.values()]


MODELS = by_model()


@pytest.fixture(scope="module")
def lvis(made_once):
    """Name of an LVIS dataset → what makes an experiment one on a few small images like it."""

    def make(name):
        folder = made_once(name, lambda folder: small_lvis(folder, name))
        return {"dataset": str(folder / f"{name}.yaml")}, folder / "data"

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
    definition = axis_values("dataset")[name] | {"image_scales": [[64, 64]]}
    for split in ("train", "val"):
        definition[split] = {"annotations": str(raw / f"{split}.json"), "images": str(raw / split)}
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(definition))


def build(config):
    """The detector with random weights: nothing is downloaded here."""
    config.model.backbone.init_cfg = None
    config.gol.weights = None
    return gol.build_detector(config)


def lighten(config):
    """The same detector with fewer proposals, on smaller images."""
    few_proposals(config.model)
    # A mask of each class for 300 detections of an untrained detector takes a gigabyte.
    config.model.test_cfg.rcnn.max_per_img = 20
    config.model.test_cfg.rcnn.score_thr = -1.0  # nothing that it finds is likely yet
    # An augmentation of mmdet's brings its own scales.
    config.data.train = shrunk(config.data.train)
    return config


def shrunk(value, key=""):
    """The value with the images' sizes in it divided by 8, where they are large."""
    if isinstance(value, dict):
        return {name: shrunk(item, name) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(shrunk(item, key) for item in value)
    return value // 8 if key in ("img_scale", "crop_size") and value > 300 else value


def train_and_detect(config):
    """One training step on two images and the detections of one test image."""
    config = lighten(config)
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
    "name", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n, *_ in MODELS]
)
def test_experiment_trains_a_step_and_detects(name, lvis):
    """One experiment of each model: the others' step would be the same."""
    axes = experiment(name).axes
    detector = train_and_detect(gol.load_experiment(name, *lvis(axes.dataset)))
    heads = detector.roi_head.bbox_head
    for head in heads if isinstance(heads, torch.nn.ModuleList) else [heads]:
        background = 0 if axes.classifier.startswith(("droploss", "eql_")) else 1
        more = background + (axes.classifier == "seesaw")
        assert head.fc_cls.weight.shape[0] == head.num_classes + more


@pytest.mark.parametrize("names", MODELS, ids=lambda names: names[0])
def test_experiments_of_one_model_resolve_to_the_same(names, lvis):
    """And each one's images are loaded, also where a sampler repeats some."""
    models = set()
    for name in names:
        axes = experiment(name).axes
        config = gol.load_experiment(name, *lvis(axes.dataset))
        train = config.data.train
        repeats = axes.sampler == "repeat_factor"
        assert (train.type == "ClassBalancedDataset") == repeats
        pipeline = (train.dataset if repeats else train).pipeline
        models.add(json.dumps([config.model, pipeline, config.data.test], sort_keys=True))
        train = SeededDataset(build_dataset(lighten(config).data.train), seed=0)
        (batch,) = load(train, [[(0, 0), (0, len(train) - 1)]])
        assert len(batch["gt_labels"]) == 2
    assert len(models) == 1


#: C + 1 logits scored by mmdet, by a loss of ours; C logits; C + 2.
CLASSIFIERS = ["sigmoid", "softmax", "gumbel", "class_relative", "droploss_gumbel", "seesaw"]

#: Those that lose their gradient where it is clamped.
CLAMPED = ["gumbel", "class_relative", "droploss_gumbel"]


#: Axes that change neither the model nor how its step is computed.
OTHERS = ("dataset", "schedule", "sampler", "init", "calibration")


def combinations():
    """Axis values such that each sensible pair of two model axes' values stands in one of them.

    Or in an experiment whose step is done above. Of the backbones each stands beside each detector:
    all detectors' heads share them. Of the classifiers one stands for those with its head.
    """
    axes = [axis for axis in AXES if axis not in OTHERS]
    values = {axis: list(axis_values(axis)) for axis in axes}
    values["classifier"] = CLASSIFIERS
    missing = {
        pair
        for a, b in itertools.combinations(axes, 2)
        for x in values[a]
        for y in values[b]
        if "backbone" not in (a, b) or "detector" in (a, b)
        if sensible(dict(pair := frozenset({(a, x), (b, y)})))
    }
    for name, *_ in MODELS:
        missing -= covered(dict(experiment(name).axes))
    rng = np.random.default_rng(0)
    while missing:
        start = dict(min(missing, key=sorted))
        drawn = (
            {axis: start.get(axis) or str(rng.choice(values[axis])) for axis in axes}
            for _ in range(200)
        )
        best = max(filter(sensible, drawn), key=lambda chosen: len(covered(chosen) & missing))
        missing -= covered(best)
        yield best


def sensible(chosen):
    """Faster R-CNN has no masks; a normed layer may begin where a clamped loss is at its cap."""
    if chosen.get("layer", "linear") != "linear" and chosen.get("classifier") in CLAMPED:
        return False
    return chosen.get("detector") != "faster_rcnn" or all(
        chosen.get(axis, getattr(Axes(), axis)) == getattr(Axes(), axis) for axis in MASK_AXES
    )


def covered(chosen):
    return {frozenset(pair) for pair in itertools.combinations(chosen.items(), 2)}


@pytest.mark.slow
@pytest.mark.parametrize("axes", list(combinations()), ids=lambda axes: "-".join(axes.values()))
def test_combinations_that_nobody_published(axes, demo_data):
    train_and_detect(gol.load_experiment("demo/gumbel", axes, demo_data))


def test_seesaw_of_c_plus_2_logits_trains_and_detects(demo_data):
    """The one classifier whose scores are fewer than its logits."""
    head = train_and_detect(gol.load_experiment("demo/seesaw", {}, demo_data)).roi_head.bbox_head
    assert head.fc_cls.weight.shape[0] == head.num_classes + 2


def test_a_large_temperature_with_a_clamped_loss_is_refused(demo_data):
    for name in CLAMPED:
        with pytest.raises(UserError, match=f"normed_20 with classifier {name}, whose rows"):
            gol.load_experiment(
                "demo/gumbel", {"classifier": name, "layer": "normed_20"}, demo_data
            )


@pytest.mark.parametrize("axis", MASK_AXES)
def test_masks_without_a_mask_head_are_refused(axis, demo_data):
    for value in axis_values(axis).keys() - {getattr(Axes(), axis)}:
        with pytest.raises(UserError, match="faster_rcnn, which has no masks; allowed: "):
            gol.load_experiment("demo/gumbel", {"detector": "faster_rcnn", axis: value}, demo_data)


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
