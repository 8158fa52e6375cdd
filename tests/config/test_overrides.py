"""Overrides: plausible mistakes are refused at the door, and what passes it trains."""

import os
import re
import warnings

import pytest

import gol
from gol.cli import main
from gol.config.experiments import experiment
from gol.config.overrides import read_setting
from gol.config.pipeline import read_pipeline
from gol.errors import UserError

ADAM = '{"_delete_": true, "type": "Adam", '
BOX, RPN = "model.roi_head.bbox_head", "model.rpn_head"

#: KEY=VALUE, as a person types it, and what the one line says.
MISTAKES = [
    # names
    ("optimizer.lrr=1", "unknown key 'lrr' in optimizer; did you mean 'lr'? allowed: lr, type"),
    ("optimiser.lr=1", "unknown key 'optimiser' in the config; did you mean 'optimizer'?"),
    ("runner.max_epoch=3", "unknown key 'max_epoch' in runner; did you mean 'max_epochs'?"),
    ("gol.thread=2", "unknown key 'thread' in gol; did you mean 'threads'?"),
    ("data.batch_size=4", "unknown key 'batch_size' in data; allowed: samples_per_gpu"),
    ("model.backbone.dept=18", "unknown key 'dept' in model.backbone; did you mean 'depth'?"),
    ("model.test_cfg.rcnn.score=0.1", "unknown key 'score' in model.test_cfg.rcnn; did you"),
    ("lr_config.gamma=0.1", "unknown key 'gamma' in lr_config; allowed: policy, by_epoch, min_lr"),
    ("lr_config.step=[8, 11]", "unknown key 'step' in lr_config; allowed: policy"),
    ("fp16.loss_scale=512", "unknown key 'fp16' in the config; allowed: detector"),
    ("=5", "unknown key '' in the config"),
    ("optimizer.=5", "unknown key '' in optimizer"),
    ("optimizer", "--set 'optimizer': expected KEY=VALUE"),
    ("optimizer.lr.x=1", "optimizer.lr is a float and has no keys"),
    ("backbone=r51", "unknown backbone 'r51'; did you mean 'r50'? allowed: r50"),
    ("dataset=demos", "unknown dataset 'demos'; did you mean 'demo'? allowed: demo"),
    # the optimizer
    ("optimizer.lr=-1", "lr: must be a number above 0 and at most 2147483647, not -1"),
    ("optimizer.lr=0", "key 'optimizer.lr' must be a number above 0, not 0"),
    (
        "optimizer.lr=fast",
        "lr: must be a number above 0 and at most 2147483647, not 'fast'",
    ),
    (
        "optimizer.lr=[0.1]",
        "lr: must be a number above 0 and at most 2147483647, not [0.1]",
    ),
    ("optimizer.lr=true", "optimizer.lr: must be a number"),
    ("optimizer.lr=", "lr: must be a number above 0 and at most 2147483647, not None"),
    ("optimizer.lr=NaN", "optimizer.lr: nan is not made of finite numbers"),
    ("optimizer.lr=1e400", "optimizer.lr: inf is not made of finite numbers"),
    (
        "optimizer.lr=1e300",
        "lr: must be a number above 0 and at most 2147483647, not 1e+300",
    ),
    ("optimizer.lr={a: 1}", "optimizer.lr: expected a value, not {'a': 1}"),
    ("optimizer.momentum=-0.5", "optimizer.momentum: must be a number from 0 to 1, not -0.5"),
    ("optimizer.momentum=high", "optimizer.momentum: must be a number from 0 to 1, not 'high'"),
    ("optimizer.weight_decay=-1", "optimizer.weight_decay: must be a number from 0 to"),
    ("optimizer.nesterov=5", "optimizer.nesterov: must be true or false, not 5"),
    ("optimizer.type=SGDD", "unknown optimizer.type 'SGDD'; did you mean 'SGD'? allowed: SGD, AS"),
    ("optimizer.type=AdamW", "unknown key 'momentum' in optimizer (AdamW); allowed: amsgrad, be"),
    ("optimizer=SGD", "optimizer: expected keys (type, lr, momentum"),
    (f'optimizer={ADAM}"beta": 1, "lr": 0.1}}', "unknown key 'beta' in optimizer; did you mean"),
    (f'optimizer={ADAM}"betas": [0.9], "lr": 0.1}}', "must be a list such as [0.9, 0.999]"),
    (f'optimizer={ADAM}"betas": [0.9, 2], "lr": 0.1}}', "Invalid beta parameter at index 1: 2"),
    (f'optimizer={ADAM}"eps": 1e-8}}', "key 'optimizer.lr' must be a number above 0, not None"),
    ("optimizer.paramwise_cfg.norm_decay_mul=0", "did you mean 'norm_decay_mult'?"),
    ("optimizer.paramwise_cfg.norm_decay_mult=no decay", "norm_decay_mult' must be a number, not"),
    ("optimizer_config.grad_clip=5", "optimizer_config.grad_clip: expected keys (max_norm), not 5"),
    ("optimizer_config.grad_clip={max_norm: -1}", "grad_clip.max_norm' must be above 0, not -1"),
    ("optimizer_config.grad_clip={max_nrom: 35}", "did you mean 'max_norm'?"),
    (
        "optimizer_config.grad_clip.norm_type=1",
        "unknown optimizer_config.grad_clip.norm_type '1'; allowed: 2",
    ),
    # the learning rate
    ("lr_config.policy=stepp", "unknown lr_config.policy 'stepp'; did you mean 'step'? allowed:"),
    ("lr_config.policy=5", "unknown lr_config.policy '5'; allowed: fixed, step"),
    ("lr_config.warmup=quadratic", '"quadratic" is not a supported type for warming up'),
    ("lr_config.warmup_iters=0", "lr_config.warmup_iters: must be a whole number from 1"),
    ("lr_config.warmup_ratio=2", '"warmup_ratio" must be in range (0,1]'),
    ("lr_config.min_lr=-1", "lr_config.min_lr: must be a number from 0 to"),
    ("lr_config.by_epoch=maybe", "lr_config.by_epoch: must be true or false, not 'maybe'"),
    ("lr_config={_delete_: true, policy: step}", "missing 1 required positional argument: 'step'"),
    ("lr_config={_delete_: true, policy: step, step: [0.5]}", "lr_config {'policy': 'step', 's"),
    # how long, how much
    ("runner.max_epochs=0", "key 'runner.max_epochs' must be at least 1, not 0"),
    ("runner.max_epochs=-3", "key 'runner.max_epochs' must be at least 1, not -3"),
    ("runner.max_epochs=1.5", "key 'runner.max_epochs' must be a whole number, not 1.5"),
    ("runner.max_epochs=ten", "key 'runner.max_epochs' must be a whole number, not 'ten'"),
    (
        "runner.type=IterBasedRunner",
        "unknown runner.type 'IterBasedRunner'; did you mean 'EpochBasedRunner'?",
    ),
    ("data.samples_per_gpu=0", "key 'data.samples_per_gpu' must be at least 1, not 0"),
    (
        "data.samples_per_gpu=3",
        "data.samples_per_gpu 3 does not divide gol.global_batch 8; ",
    ),
    ("data.workers_per_gpu=-1", "key 'data.workers_per_gpu' must be at least 0, not -1"),
    ("gol.global_batch=12", "data.samples_per_gpu 8 does not divide gol.global_batch 12; allowed"),
    ("gol.threads=0", "key 'gol.threads' must be at least 1, not 0"),
    ("gol.threads=four", "key 'gol.threads' must be a whole number, not 'four'"),
    ("gol.threads=100000", "key 'gol.threads' must be at most 1024, not 100000"),
    ("gol.checkpoint_interval=0", "key 'gol.checkpoint_interval' must be at least 1, not 0"),
    ("gol.checkpoint_minutes=0", "key 'gol.checkpoint_minutes' must be above 0, not 0"),
    (
        "gol.precision=float16",
        "override gol.precision: it cannot be changed: change the axis precision",
    ),
    ("gol.weights={path: x}", "unknown key 'path' in gol.weights; allowed: file, url"),
    ("gol.weights={_delete_: true, sha256: abcdef12}", "'gol.weights' must have a file or a url"),
    ("gol.weights.page=http://p", "'gol.weights' must have page and name together, and no url"),
    (
        "gol.weights={_delete_: true, page: p, name: ../x}",
        "'gol.weights.name' must be the name of a file, not '../x'",
    ),
    ("gol.weights=mine.pth", "key 'gol.weights' must be an object with the keys file, url"),
    ("seed=-1", "seed is -1; allowed: whole numbers from 0"),
    ("seed=one", "seed is 'one'; allowed: whole numbers from 0"),
    # what does not do what it seems to do
    (
        "evaluation.interval=1",
        "evaluation.interval: it cannot be changed: gol validates by gol.valid",
    ),
    ("evaluation={metric: bbox}", "evaluation: it cannot be changed"),
    (
        "data.val.ann_file=x.json",
        "data.val.ann_file: it cannot be changed: gol detects on",
    ),
    ("gol.scorings=[sigmoid]", "gol.scorings: it cannot be changed: they follow the axis classif"),
    ("gol.experiment=mine", "gol.experiment: it cannot be changed: it follows the experiment"),
    ("custom_imports.imports=[os]", "custom_imports.imports: it cannot be changed"),
    (f"{BOX}.num_classes=0", "bbox_head.num_classes: it cannot be changed: it follows the dataset"),
    (f"{BOX}.loss_cls.activation=gumbel", "it cannot be changed: it follows the axis classifier"),
    (f"{BOX}.loss_cls.type=EQL", "it cannot be changed: it follows the axis classifier"),
    ("model.backbone.init_cfg.type=Kaiming", "the backbone's weights are gol.weights"),
    # the detector
    ("model.type=FasterRCNN", "model.type: it cannot be changed: change the axis detector"),
    (
        "model.backbone.depth=19",
        "unknown model.backbone.depth '19'; allowed: 18, 34, 50, 101, 152",
    ),
    ("model.backbone.type=ResNetXt", "unknown model.backbone.type 'ResNetXt'; did you mean 'Res"),
    ("model.backbone.norm_eval=maybe", "norm_eval: must be true or false, not 'maybe'"),
    ("model.backbone.frozen_stages=-2", "frozen_stages: must be a whole number from -1"),
    ("model.neck.out_channels=-64", "model.neck.out_channels: must be a whole number from 1"),
    (
        "model.neck.num_outs=2",
        "override model.neck.num_outs: model.neck cannot be built: FPN requires `num_outs >=",
    ),
    ("model.neck.out_channels=32", "override model.neck.out_channels: model cannot be built"),
    ("model.neck.num_outs=5", "model: rpn_head has 3 strides for 5 feature maps"),
    (f"{RPN}.anchor_generator.scales=4", "scales: must be a list such as [4], not 4"),
    (f"{RPN}.anchor_generator.scales=[]", "scales: must be a list such as [4], not []"),
    (f"{RPN}.anchor_generator.scales=[big]", "scales.0: must be a whole number from 1"),
    (f"{RPN}.anchor_generator.strides=[4, 8]", "rpn_head has 2 strides for 3 feature maps"),
    (f"{BOX}.loss_cls.mode=exakt", "mode is 'exakt'; allowed: paper, exact, clamped"),
    (f"{BOX}.loss_cls.loss_weight=-1", "loss_weight: must be a number from 0"),
    (f"{BOX}.roi_feat_size=8", f"override {BOX}.roi_feat_size: model cannot be built"),
    ("model.roi_head.mask_roi_extractor.roi_layer.output_size=10", "mask_head makes masks of 10"),
    ("model.train_cfg.rpn.assigner.type=MaxIoU", "did you mean 'MaxIoUAssigner'?"),
    ("model.train_cfg.rpn.sampler.num=1.5", "sampler.num: must be a whole number from 1"),
    ("model.train_cfg.rcnn.assigner.pos_iou_thr=5", "pos_iou_thr: must be a number from 0 to 1"),
    ("model.test_cfg.rcnn.score_thr=2", "score_thr: must be a number from 0 to 1, not 2"),
    ("model.test_cfg.rcnn.score_thr=low", "score_thr: must be a number from 0 to 1, not 'low'"),
    ("model.test_cfg.rcnn.max_per_img=0", "max_per_img: must be a whole number from 1"),
    ("model.test_cfg.rcnn.nms.iou_threshold=-0.1", "iou_threshold: must be a number from 0 to 1"),
    ("model=small", "model: expected keys (type, backbone, neck"),
    # data
    ("data.train.ann_file=5", "data.train.ann_file: must be a text such as"),
    ("data.train.pipeline=[]", "data.train.pipeline: must be a list such as"),
    ("data.train.pipeline=[flip]", "data.train.pipeline: must be a list of objects, not ['flip']"),
    ('data.train.pipeline=[{"type": "LoadImage"}]', "'LoadImage'; did you mean 'LoadImageFromFil"),
    # what is not a value
    ("optimizer.lr=*lr", "override optimizer.lr: '*lr' has YAML anchors"),
    ("optimizer={a: &a [1], lr: *a}", "has YAML anchors (& and *): not allowed"),
    ("optimizer={[1]: 2}", "is neither JSON nor YAML"),
    ("optimizer={1: 2}", "is not made of finite numbers"),
    ("optimizer.lr=2024-01-01", "is not made of finite numbers"),
    ("optimizer.lr=!!python/name:os.system", "is neither JSON nor YAML"),
    (f"runner.max_epochs={'9' * 5000}", "is neither JSON nor YAML"),
    (f"runner.max_epochs={'9' * 4000}", "is not made of finite numbers (at most 2147483647)"),
    (f"optimizer.lr={'[' * 20_000}", "is neither JSON nor YAML"),
    (f"optimizer.lr={'x' * 500}", f"not '{'x' * 78}…"),
]

#: The type of a non-maximum suppression is evaluated by mmcv as Python code.
EVALUATED = [
    {"model.test_cfg.rcnn.nms.type": "__import__('os').getcwd"},
    {"model.test_cfg": {"rpn": {"nms": {"type": "soft_nms"}}}},
    {"model.train_cfg.rpn_proposal.nms": {"type": "exit"}},
    {"model.roi_head.bbox_head.conv_cfg": {"type": "Conv2d", "nms": {"type": "exit"}}},
]

LEGAL = [
    {"optimizer.lr": 0.01},
    {"optimizer.lr": "1e-3"},
    {"optimizer.lr": 1},
    {"optimizer.momentum": 0},
    {"optimizer.nesterov": True},
    {"optimizer": {"weight_decay": "5e-4"}},
    {"optimizer": {"_delete_": True, "type": "AdamW", "lr": 1e-4, "betas": [0.9, 0.99]}},
    {"optimizer.paramwise_cfg.custom_keys": {"neck": {"lr_mult": "0.1"}}},
    {"optimizer.paramwise_cfg.bias_lr_mult": 2},
    {"optimizer_config.grad_clip": None},
    {"optimizer_config.grad_clip.max_norm": "35"},
    {"lr_config.min_lr": "1e-5"},
    {"lr_config.warmup": None},
    {"lr_config": {"_delete_": True, "policy": "step", "step": ["8", "11"], "gamma": "0.5"}},
    {"lr_config": {"_delete_": True, "policy": "step", "step": 3}},
    {"lr_config": {"_delete_": True, "policy": "fixed"}},
    {"lr_config.policy": "poly", "lr_config.power": 2},
    {"runner.max_epochs": "3"},
    {"data.samples_per_gpu": 4, "gol.global_batch": 4},
    {"gol.checkpoint_minutes": 0.5},
    {"gol.label": "12"},
    {"model.backbone.frozen_stages": "-1", "model.backbone.with_cp": "true"},
    {"model.rpn_head.anchor_generator.scales": [6]},
    {"model.roi_head.bbox_head.loss_cls.mode": "exact"},
    {"model.train_cfg.rpn.sampler.num": 32, "model.train_cfg.rcnn.assigner.pos_iou_thr": 0.6},
    {"data.train.type": "InstanceDataset"},
]


def resolve(overrides):
    return gol.load_experiment("demo/gumbel", overrides, os.devnull)


@pytest.mark.parametrize(("text", "words"), MISTAKES, ids=lambda value: value[:60])
def test_a_mistake_is_one_line_that_names_the_key_and_what_is_allowed(text, words):
    assert len(MISTAKES) >= 60
    with pytest.raises(UserError) as raised:
        resolve(dict([read_setting(text)]))
    message = str(raised.value)
    assert words in message and "\n" not in message
    assert not re.search(r"override (\S+): unknown \1 ", message)


@pytest.mark.parametrize("overrides", EVALUATED, ids=lambda overrides: next(iter(overrides)))
def test_no_text_reaches_an_eval(overrides):
    with pytest.raises(UserError, match=r"allowed: nms$"):
        resolve(overrides)


@pytest.mark.parametrize("overrides", LEGAL, ids=str)
def test_what_is_right_is_taken_in_its_own_type(overrides):
    assert len(LEGAL) >= 20
    config = resolve(overrides)
    for key, value in overrides.items():
        found = config
        for part in key.split("."):
            found = found[part]
        if isinstance(value, str) and not isinstance(found, str):
            value = True if value == "true" else float(value)
        if not isinstance(value, dict):
            assert found == value and isinstance(found, bool) == isinstance(value, bool)


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("12", "12"),
        ("Mine: yours", "Mine: yours"),
        ("[mine", "[mine"),
        ('"Gumbel, lr 0.01"', "Gumbel, lr 0.01"),
    ],
)
def test_a_label_is_what_was_typed(text, label):
    assert resolve(dict([read_setting(f"gol.label={text}")]))["gol"]["label"] == label


def test_text_becomes_a_number_wherever_it_stands():
    overrides = {
        "optimizer": {"lr": "1e-3", "nesterov": "true"},
        "lr_config": {"_delete_": "true", "policy": "step", "step": ["8", "11"], "gamma": "0.5"},
        "optimizer_config.grad_clip": {"max_norm": "35"},
        "optimizer.paramwise_cfg.custom_keys": {"neck.lateral": {"decay_mult": "0"}},
        "gol.weights": {"file": "12"},
    }
    config = resolve(overrides)
    assert config.optimizer.lr == 0.001 and config.optimizer.nesterov is True
    assert config.lr_config == {"policy": "step", "step": [8, 11], "gamma": 0.5}
    assert config.optimizer_config.grad_clip.max_norm == 35
    assert config.optimizer.paramwise_cfg.custom_keys == {"neck.lateral": {"decay_mult": 0}}
    assert config.gol.weights.file == "12"


@pytest.mark.parametrize("part", ["set", "row"])
@pytest.mark.parametrize("text", ["optimizer.lr=fast", "runner.max_epochs=0", "optimizer.lrr=1"])
def test_a_pipeline_goes_through_the_same_door(part, text):
    words = next(words for mistake, words in MISTAKES if mistake == text)
    key, _, value = text.partition("=")  # as text, as Snakemake delivers it
    row = {"demo/gumbel@row": {"set": {key: value}}}
    content = {
        "set": {"experiments": ["demo/gumbel"], "set": {key: value}},
        "row": {"experiments": ["demo/gumbel", row]},
    }[part]
    with pytest.raises(UserError) as raised:
        read_pipeline({"name": "mine", **content})
    assert words in str(raised.value)


@pytest.mark.parametrize("text", ["optimizer.lr=*a", f"seed={'9' * 5000}", "evaluation.interval=1"])
def test_the_command_line_ends_in_one_line_and_code_2(text, tmp_path, capsys):
    run = tmp_path / "run"
    assert main(["config", "demo/gumbel", "--run", str(run), "--set", text]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not run.exists()


def test_a_row_is_a_training_of_its_own():
    config = resolve({})
    row = gol.load_experiment("demo/gumbel@slow", {"optimizer.lr": 0.01}, os.devnull)
    assert (row.gol.experiment, row.gol.label) == ("demo/gumbel@slow", "Gumbel, slow")
    assert config.gol.published and config.gol.compare
    assert row.gol.published is row.gol.compare is None
    same = ("experiment", "label", "published", "compare")
    assert {k: v for k, v in row.gol.items() if k not in same} == {
        k: v for k, v in config.gol.items() if k not in same
    }
    with pytest.raises(UserError, match="expected NAME@ROW"):
        experiment("demo/gumbel@")
    with pytest.raises(UserError, match="unknown experiment 'demo/gumble'; did you mean"):
        experiment("demo/gumble@slow")


@pytest.mark.slow
@pytest.mark.parametrize("overrides", LEGAL, ids=str)
def test_what_is_right_trains_an_iteration(overrides, demo_data):
    from gol.engine.distributed import join
    from gol.engine.trainer import Trainer

    config = gol.load_experiment("demo/gumbel", overrides, demo_data)
    if config.gol.weights:
        pytest.skip("no file")
    with join("cpu") as ranks, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = Trainer(config, ranks).step(0)
    assert 0 < values["loss"] < 100 and values["lr"] >= 0


def test_keys_of_a_part_reach_it_through_the_command_line():
    """The names in `custom_keys` are texts, but what stands there is none."""
    key, value = read_setting("optimizer.paramwise_cfg.custom_keys={norm: {decay_mult: 0}}")
    assert value == {"norm": {"decay_mult": 0}}
    config = gol.load_experiment("demo/gumbel", {"optimizer.paramwise_cfg": {"custom_keys": value}})
    assert config.optimizer.paramwise_cfg.custom_keys.norm.decay_mult == 0
    assert gol.load_experiment("demo/gumbel", {key: value}).optimizer == config.optimizer
