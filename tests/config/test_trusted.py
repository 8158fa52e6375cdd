"""A stranger's config.json runs no code, and what the project itself writes is let through."""

import copy
import json
import os
import pickle
import sys
from contextlib import nullcontext, suppress

import pytest

import gol
import gol.models
from gol.cli import main
from gol.config import resolve
from gol.config.trusted import check_trusted
from gol.errors import UserError


class Evil:
    """Its pickle writes the file."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A folder with a module, a config and a pickle, each of which writes the file MARK."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.delitem(sys.modules, "mc", raising=False)
    mark = tmp_path / "MARK"
    code = f"open({str(mark)!r}, 'w')\n"
    (tmp_path / "mc.py").write_text(code + "Client = None\n")
    (tmp_path / "teacher.py").write_text(code)
    (tmp_path / "evil.pkl").write_bytes(pickle.dumps(Evil(mark)))
    cached = tmp_path / "hub/checkpoints/evil.pth"  # as if it had been downloaded
    cached.parent.mkdir(parents=True)
    cached.write_bytes(pickle.dumps(Evil(mark)))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def plain(tiny_data):
    overrides = {"data.workers_per_gpu": 0, "data.samples_per_gpu": 2, "gol.global_batch": 2}
    return gol.load_experiment("demo/gumbel", overrides, tiny_data)._cfg_dict.to_dict()


def client(folder):
    return {"backend": "memcached", "server_list_cfg": "", "client_cfg": "", "sys_path": folder}


def evaluated(config, folder):
    config["model"]["test_cfg"]["rpn"]["nms"]["type"] = f"open('{folder}/MARK', 'w')"
    config["model"]["train_cfg"]["rpn_proposal"]["nms"]["type"] = f"open('{folder}/MARK', 'w')"


def file_client_of_a_transform(config, folder):
    config["data"]["train"]["pipeline"][0]["file_client_args"] = client(folder)


def file_client_of_the_dataset(config, folder):
    config["data"]["train"]["file_client_args"] = client(folder)


def pickled_proposals(config, folder):
    config["data"]["train"]["proposal_file"] = f"{folder}/evil.pkl"


def executed_teacher(config, folder):
    model = config["model"]
    parts = {"backbone": model["backbone"], "neck": model["neck"], "bbox_head": model["rpn_head"]}
    config["model"] = {
        "type": "KnowledgeDistillationSingleStageDetector",
        "teacher_config": f"{folder}/teacher.py",
        "train_cfg": model["train_cfg"]["rpn"],
        "test_cfg": model["test_cfg"]["rpn"],
        **parts,
    }


def weights_of_a_part(config, folder):
    init = {"checkpoint": "http://localhost/evil.pth"}
    config["model"]["neck"] = {"type": "SwinTransformer", "init_cfg": init}


def weights_beside_an_initialiser(config, folder):
    weights_of_a_part(config, folder)
    config["model"]["neck"]["init_cfg"]["type"] = "Xavier"


ROADS = [
    evaluated,
    file_client_of_a_transform,
    file_client_of_the_dataset,
    pickled_proposals,
    executed_teacher,
    weights_of_a_part,
    weights_beside_an_initialiser,
]


@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
def test_a_road_to_code_is_closed(road, plain, evil, monkeypatch, capsys):
    run, mark = evil / "run", evil / "MARK"
    monkeypatch.setattr(resolve, "check_leaves", lambda *_: None)  # it is no wall
    run.mkdir()
    config = copy.deepcopy(plain)
    road(config, str(evil))
    (run / "config.json").write_text(json.dumps(config))
    verbs = [["train", str(run)], ["detect", str(run), "--checkpoint", "x", "--out", f"{evil}/o"]]
    for verb in verbs:
        assert main([*verb, "--device", "cpu"]) == 2
        error = capsys.readouterr().err.strip()
        assert str(run / "config.json") in error and len(error.splitlines()) == 1
    assert not mark.exists() and set(os.listdir(run)) <= {"config.json", ".train.lock"}

    # The road is a real one: without the check it leads there.
    monkeypatch.setattr(resolve, "check_trusted", lambda *_: None)
    monkeypatch.setattr(gol.models, "_own_weights_alone", nullcontext)
    with suppress(Exception):
        main([*verbs[0], "--device", "cpu"])
    assert mark.exists()


def test_mmcv_loads_no_weights_where_the_check_fails(plain, evil, monkeypatch, capsys):
    config = copy.deepcopy(plain)
    weights_of_a_part(config, str(evil))
    (evil / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(resolve, "check_trusted", lambda *_: None)
    assert main(["train", str(evil), "--device", "cpu"]) == 2
    assert "a detector's only weights are gol.weights" in capsys.readouterr().err
    assert not (evil / "MARK").exists()


PRETRAINED = {"type": "Pretrained", "checkpoint": "https://example.org/x.pth"}
PUBLISHED = {"type": "Pretrained", "checkpoint": "torchvision://resnet101"}
LAYER = "model.roi_head.bbox_roi_extractor.roi_layer.type"
BOX = "model.roi_head.bbox_head"
#: Dotted key, value, and what the one line says.
REFUSED = [
    ("custom_imports", {"imports": ["evil"], "allow_failed_imports": False}, "allowed: {'imports'"),
    ("custom_imports.imports", ["gol.models", "os"], "allowed: {'imports'"),
    ("_base_", "evil.py", "unknown key '_base_' in the config"),
    ("custom_hooks", [{"type": "RFSearchHook"}], "unknown key 'custom_hooks' in the config"),
    ("model.type", "LAD", "unknown model.type 'LAD'; allowed: TwoStageDetector"),
    ("model.type", "mmdet.MaskRCNN", "unknown model.type 'mmdet.MaskRCNN'; did you mean 'Mask"),
    ("model.pretrained", "evil.pth", "model.pretrained: not allowed"),
    ("model.backbone.pretrained", "evil.pth", "model.backbone.pretrained: not allowed"),
    ("model.backbone.init_cfg", PRETRAINED, "allowed: torchvision://resnet101"),
    ("model.backbone.init_cfg", [PRETRAINED], "allowed: torchvision://resnet101"),
    ("model.backbone.init_cfg", [PUBLISHED], "allowed: torchvision://resnet101"),
    ("model.neck.init_cfg", PRETRAINED, "model.neck.init_cfg.checkpoint: not allowed"),
    ("model.neck.init_cfg", {"type": "Pretrained"}, "unknown model.neck.init_cfg.type 'Pretrained"),
    ("model.neck.init_cfg", {}, "unknown model.neck.init_cfg.type 'None'; allowed: "),
    ("model.init_cfg", [PRETRAINED], "model.init_cfg.checkpoint: not allowed"),
    (f"{BOX}.init_cfg.override", {"name": "fc_cls", **PRETRAINED}, "override.checkpoint: not all"),
    ("model.neck.type", "__import__('os')", "unknown model.neck.type"),
    ("model.neck.type", ["FPN"], "unknown model.neck.type '['FPN']'"),
    ("model.neck.norm_cfg", {"type": "Config"}, "unknown model.neck.norm_cfg.type 'Config'"),
    ("model.test_cfg.rcnn.nms.type", "soft_nms", "nms.type 'soft_nms'; allowed: nms"),
    ("model.rpn_head.test_cfg", {"nms": {"type": "exit"}}, "'exit'; allowed: nms"),
    (f"{BOX}.cls_predictor_cfg", [{"nms_cfg": {"type": "exit"}}], "'exit'; allowed: nms"),
    (LAYER, "load_url", f"unknown {LAYER} 'load_url'; allowed: RoIAlign"),
    ("optimizer.type", "Optimizer", "unknown optimizer.type 'Optimizer'"),
    ("lr_config.policy", "wandb", "unknown lr_config.policy 'wandb'"),
    ("data.train.type", "CustomDataset", "unknown data.train.type 'CustomDataset'; did you mean"),
    ("data.test.classes", "/etc/passwd", "unknown key 'classes' in data.test"),
    ("data.val", None, "key 'data.val' must be an object, not None"),
    ("data.test_dataloader", {}, "unknown key 'test_dataloader' in data"),
    ("data.train.pipeline", [{"type": "Albu"}], "unknown data.train.pipeline.type 'Albu'"),
    (
        "data.test.pipeline",
        [{"type": "MultiScaleFlipAug", "transforms": [{"type": "InstaBoost"}]}],
        "unknown data.test.pipeline.transforms.type 'InstaBoost'",
    ),
    ("model.neck.deep", json.loads("[" * 900 + "]" * 900), "'model' is nested more than 50 deep"),
    ("model", [], "key 'model' must be an object, not []"),
]


@pytest.mark.parametrize(("key", "value", "words"), REFUSED, ids=lambda value: str(value)[:50])
def test_what_a_config_may_not_name(key, value, words, plain):
    config = copy.deepcopy(plain)
    *place, last = key.split(".")
    part = config
    for name in place:
        part = part[name]
    part[last] = value
    with pytest.raises(UserError) as raised:
        check_trusted(config, "c.json")
    message = str(raised.value)
    assert message.startswith("c.json: ") and words in message and len(message) < 1000


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.type", "LAD"),
        ("data.train.pipeline", [{"type": "LoadImageFromFile", "file_client_args": client("/x")}]),
        ("model.neck.init_cfg", PRETRAINED),
        ("model.backbone.pretrained", "evil.pth"),
    ],
)
def test_an_override_goes_through_the_same_door(key, value):
    with pytest.raises(UserError):
        gol.load_experiment("demo/gumbel", {key: value}, os.devnull)


def test_annotations_that_are_a_pickle_are_not_unpickled(plain, evil, capsys):
    config = copy.deepcopy(plain)
    for split in ("train", "test"):
        config["data"][split]["ann_file"] = str(evil / "evil.pkl")
    (evil / "config.json").write_text(json.dumps(config))
    assert main(["train", str(evil), "--device", "cpu"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not (evil / "MARK").exists()


@pytest.mark.parametrize("name", gol.experiments())
def test_every_experiment_is_let_through(name):
    config = gol.load_experiment(name, None, os.devnull)
    check_trusted(json.loads(json.dumps(config._cfg_dict.to_dict())))


def test_a_config_of_0_2_0_is_let_through(plain):
    config = copy.deepcopy(plain)
    config["model"]["roi_head"]["mask_head"]["upsample_cfg"] = {"type": None}  # all that differs
    check_trusted(config)
