"""Backbone weights: the published files, found or fetched once, every tensor matched."""

import hashlib
import importlib.util
import json
import re
from pathlib import Path

import facts
import pytest
import torch
import torchvision
from fault_server import serve
from torchvision.models.resnet import Bottleneck, ResNet

import gol
from gol import compat
from gol.cli import main
from gol.config.axes import axis_values
from gol.config.resolve import load_config, save_config
from gol.errors import UserError
from gol.models.state import load_checkpoint
from gol.models.weights import load_backbone
from gol.run_folder import RunFolder
from gol.sources.weights import cache_path

R50 = {"type": "ResNet", "depth": 50}


def build_backbone(config):
    compat.apply()
    from mmdet.models import build_backbone

    return build_backbone(config)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty torch.hub cache."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("gol.sources.download._PAUSE", 0.001)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.fixture(scope="module")
def resnet50():
    """torchvision's model with random weights and running statistics."""
    torch.manual_seed(torch.seed())
    model = torchvision.models.resnet50(weights=None).eval()
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return model


def save(path, content, **settings):
    torch.save(content, path, **settings)
    return {"file": str(path)}


def stages(model, images):
    """Outputs of the four stages of torchvision's ResNet."""
    x, outputs = model.maxpool(model.relu(model.bn1(model.conv1(images)))), []
    for stage in (model.layer1, model.layer2, model.layer3, model.layer4):
        x = stage(x)
        outputs.append(x)
    return outputs


@pytest.mark.parametrize("wrapped", [None, "state_dict", "legacy", "old batch norm"])
def test_resnet_computes_what_torchvision_s_does(tmp_path, resnet50, wrapped):
    state = resnet50.state_dict()
    if wrapped == "old batch norm":  # files from before torch 0.4.1
        state = {k: v for k, v in state.items() if "num_batches" not in k}
    content = {"state_dict": state, "meta": {}} if wrapped == "state_dict" else state
    settings = {"_use_new_zipfile_serialization": False} if wrapped == "legacy" else {}
    backbone = build_backbone(R50)
    load_backbone(backbone, save(tmp_path / "w.pth", content, **settings))
    backbone.eval()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        for found, expected in zip(backbone(images), stages(resnet50, images), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("r50", 1),
        pytest.param("r101", 1, marks=pytest.mark.slow),
        pytest.param("x101_32x4d", 32, marks=pytest.mark.slow),
        pytest.param("x101_64x4d", 64, marks=pytest.mark.slow),
    ],
)
def test_every_shipped_resnet_takes_every_tensor(tmp_path, name, groups):
    blocks = [3, 4, 6 if name == "r50" else 23, 3]
    width = 64 if groups == 1 else 4
    with torch.device("meta"):
        model = ResNet(Bottleneck, blocks, groups=groups, width_per_group=width)
    state = {k: torch.rand(v.shape).to(v.dtype) for k, v in model.state_dict().items()}
    config = gol.load_experiment("activations/r50_4x4_1x", {"backbone": name}).model.backbone
    backbone = build_backbone({**config, "init_cfg": None})
    load_backbone(backbone, save(tmp_path / "w.pth", state))
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state.pop(key)), key
    assert set(state) == {"fc.weight", "fc.bias"}


def swin():
    """The shipped configuration of Swin-T."""
    config = gol.load_experiment("activations/r50_4x4_1x", {"backbone": "swin_t"}).model.backbone
    return {**config, "init_cfg": None}


def authors_names(state):
    """torchvision's Swin under the names of Swin's authors, with what else their file holds."""
    renamed = {}
    for key, value in state.items():
        key = key.replace("features.0.0.", "patch_embed.proj.")
        key = key.replace("features.0.2.", "patch_embed.norm.")
        # blocks and mergings alternate: features.1 is layer 0, features.2 its merging
        if match := re.match(r"features\.(\d)\.(.*)", key):
            number, rest = int(match[1]), match[2]
            if number % 2 == 0:
                key = f"layers.{number // 2 - 1}.downsample.{rest}"
            else:
                key = f"layers.{number // 2}.blocks.{rest}"
        key = key.replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
        if key.endswith("relative_position_index"):
            value = value.view(49, 49)
        renamed[key] = value
    renamed["layers.0.blocks.1.attn_mask"] = torch.zeros(64, 49, 49)
    return renamed


@pytest.mark.slow
def test_swin_computes_what_torchvision_s_does(tmp_path):
    model = torchvision.models.swin_t(weights=None).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    backbone = build_backbone(swin())
    content = {"model": authors_names(model.state_dict())}
    load_backbone(backbone, save(tmp_path / "w.pth", content))
    backbone.eval()
    # Two windows across in the last stage: torchvision shifts no single one, mmdet does.
    images, norm = torch.randn(1, 3, 448, 448), torch.nn.functional.layer_norm
    with torch.no_grad():
        x, expected = images, []
        for number, part in enumerate(model.features):
            x = part(x)
            if number % 2:  # the detector's own norms are new: weight 1, bias 0
                expected.append(norm(x, x.shape[-1:]).permute(0, 3, 1, 2))
        for found, wanted in zip(backbone(images), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_swin_with_another_window_is_refused(tmp_path):
    state = authors_names(torchvision.models.swin_t(weights=None).state_dict())
    backbone = build_backbone({**swin(), "window_size": 5})
    with pytest.raises(UserError, match=r"relative_position_bias_table is \(169, 3\), the model"):
        load_backbone(backbone, save(tmp_path / "w.pth", {"model": state}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("layer3.4.bn2.running_var"), r"missing layer3\.4\.bn2\.running_var$"),
        (lambda s: s.update({"layer5.x": torch.ones(1)}), r"unexpected layer5\.x$"),
        (
            lambda s: s.update({"conv1.weight": torch.ones(64, 1, 7, 7)}),
            r"conv1\.weight is \(64, 1, 7, 7\), the model has \(64, 3, 7, 7\)$",
        ),
        (lambda s: s.update({"conv1.weight": 3}), r"conv1\.weight is int, the model has"),
        (lambda s: s.clear(), r"missing conv1\.weight; missing .* and \d+ more$"),
    ],
)
def test_a_partial_match_names_the_keys_and_changes_nothing(tmp_path, resnet50, change, message):
    state = dict(resnet50.state_dict())
    change(state)
    backbone = build_backbone(R50)
    before = {key: value.clone() for key, value in backbone.state_dict().items()}
    with pytest.raises(UserError, match=message) as error:
        load_backbone(backbone, save(tmp_path / "w.pth", state))
    assert "w.pth does not fit the ResNet: " in str(error.value)
    assert all(torch.equal(before[k], v) for k, v in backbone.state_dict().items())


def test_weights_of_another_depth_are_refused(tmp_path, resnet50):
    with pytest.raises(UserError, match=r"missing layer3\.6\.conv1\.weight"):
        load_backbone(
            build_backbone({**R50, "depth": 101}), save(tmp_path / "w.pth", resnet50.state_dict())
        )


@pytest.mark.parametrize("content", [{"state_dict": 3}, [1, 2], b"not torch's"])
def test_what_is_no_state_dict_is_one_line(tmp_path, content):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"w\.pth (holds|is a text file, not a checkpoint)"):
        load_backbone(build_backbone(R50), {"file": str(path)})


def published(checkpoint):
    """The URL that mmcv's own tables give a name such as torchvision://resnet50."""
    folder = Path(importlib.util.find_spec("mmcv").origin).parent / "model_zoo"
    scheme, _, name = checkpoint.partition("://")
    if scheme in ("http", "https"):
        return checkpoint
    table = {"torchvision": "torchvision_0.12.json", "open-mmlab": "open_mmlab.json"}[scheme]
    return json.loads((folder / table).read_text())[name]


PRETRAINED = {
    name: value
    for name, value in axis_values("backbone").items()
    if (value["model"]["backbone"].get("init_cfg") or {}).get("checkpoint")
}


@pytest.mark.parametrize("name", PRETRAINED)
def test_urls_and_hashes_are_those_of_the_original_s_names(name):
    value = PRETRAINED[name]
    weights, init = value["weights"], value["model"]["backbone"]["init_cfg"]
    assert weights["url"] == published(init["checkpoint"])
    named = re.search(r"-([0-9a-f]{8,})\.pth$", weights["url"])
    assert weights.get("sha256") == (named[1] if named else None)


def test_names_are_the_original_s():
    original = {fields["pretrained"] for fields in facts.original().values() if fields}
    assert len(original) > 3
    ours = {value["model"]["backbone"]["init_cfg"]["checkpoint"] for value in PRETRAINED.values()}
    assert original <= ours


@pytest.fixture(scope="module")
def r50_file(resnet50, tmp_path_factory):
    """ResNet-50's file, and how its hash begins. To be read only."""
    path = tmp_path_factory.mktemp("r50") / "w.pth"
    save(path, resnet50.state_dict())
    return path, hashlib.sha256(path.read_bytes()).hexdigest()[:8]


@pytest.fixture
def published_r50(cache, r50_file, monkeypatch):
    """A server that has ResNet-50's file, and an r50 whose weights are there."""
    path, digest = r50_file
    content = path.read_bytes()
    with serve() as server:
        url = server.add(f"resnet50-{digest}.pth", content, etag='"1"')
        server.weights = {"url": url, "sha256": digest}
        monkeypatch.setitem(gol.config.axes._models("backbone")["r50"], "weights", server.weights)
        yield server


@pytest.mark.slow
def test_a_run_fetches_its_backbone_once_and_before_it_trains(
    published_r50, cache, resnet50, tmp_path, monkeypatch
):
    config = gol.load_experiment("activations/gumbel/gumbel_r50_4x4_1x")
    save_config(config, tmp_path / "run")
    trained = []

    def train(run, device):  # the paper's is too large here
        published_r50.files.clear()
        trained.append(gol.build_detector(load_config(run)))
        return RunFolder(run).read_summary()

    monkeypatch.setattr("gol.engine.train.train", train)
    for _ in range(2):
        assert main(["train", str(tmp_path / "run")]) == 2  # no summary
    for detector in trained:
        assert torch.equal(detector.backbone.conv1.weight, resnet50.conv1.weight)
    assert len(published_r50.requests) == 1
    assert cache_path("x").parent == cache
    assert len(trained) == 2
    # frozen as the config asks, and mmdet's tools still find their own key
    assert not detector.backbone.conv1.weight.requires_grad
    assert config.model.backbone.init_cfg.checkpoint == "torchvision://resnet50"
    head = config.model.roi_head.bbox_head.init_cfg.bias
    assert set(detector.roi_head.bbox_head.fc_cls.bias.tolist()) == {head}


@pytest.mark.slow
def test_detection_s_detector_fetches_nothing(published_r50):
    config = gol.load_experiment("activations/gumbel/gumbel_r50_4x4_1x")
    gol.build_detector(config, initialise=False)
    config.gol.weights = None
    gol.build_detector(config)  # from scratch
    assert not published_r50.requests


def test_weights_verb_fills_the_cache(published_r50, cache, capsys):
    assert main(["weights"]) == 0
    assert re.search(r"r50 +- +http", capsys.readouterr().out)
    assert main(["weights", "r50"]) == 0
    path = Path(capsys.readouterr().out.strip())
    assert path.parent == cache and load_checkpoint(path)
    assert main(["weights"]) == 0
    assert re.search(r"r50 +there +http", capsys.readouterr().out)
    assert main(["weights", "r51"]) == 2
    assert "unknown weights 'r51'; did you mean 'r50'? allowed: " in capsys.readouterr().err


def test_what_is_not_there_is_named_with_what_to_do_and_not_fetched(published_r50, cache):
    config = gol.load_experiment("activations/gumbel/gumbel_r50_4x4_1x")
    with pytest.raises(UserError) as error:
        gol.build_detector(config)
    advice = ("`gol weights r50`", "`gol config EXPERIMENT --weights FILE`")
    for part in (published_r50.weights["url"], str(cache), *advice):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert not published_r50.requests


def test_offline_a_launcher_says_what_to_do_and_submits_nothing(
    published_r50, cache, tmp_path, capsys
):
    published_r50.files.clear()
    save_config(gol.load_experiment("activations/gumbel/gumbel_r50_4x4_1x"), tmp_path / "run")
    # Its annotations need not be there to be hashed.
    annotations = tmp_path / "train.json"
    annotations.write_text("[]")
    content = json.loads((tmp_path / "run/config.json").read_text())
    content["data"]["train"]["ann_file"] = str(annotations)
    (tmp_path / "run/config.json").write_text(json.dumps(content))
    assert main(["launch", str(tmp_path / "run"), "--device", "cpu"]) == 2
    said = capsys.readouterr().err
    for part in (published_r50.weights["url"], str(cache), "gol config EXPERIMENT --weights FILE"):
        assert part in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run/job.json").exists() and not (tmp_path / "run/logs").exists()


@pytest.mark.parametrize("variable", ["TORCH_HOME", "XDG_CACHE_HOME", None])
def test_the_cache_is_torch_hub_s(monkeypatch, variable):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    if variable:
        monkeypatch.setenv(variable, "~/somewhere")
    assert cache_path("x.pth") == Path(torch.hub.get_dir()) / "checkpoints/x.pth"


@pytest.mark.slow
def test_a_file_takes_the_place_of_the_download(
    published_r50, r50_file, tmp_path, resnet50, capsys
):
    command = ["config", "activations/gumbel/gumbel_r50_4x4_1x", "--run", str(tmp_path / "run")]
    assert main([*command, "--weights", str(tmp_path / "none.pth")]) == 2
    assert "no file" in capsys.readouterr().err and not (tmp_path / "run").exists()
    save(tmp_path / "nan.pth", resnet50.state_dict() | {"bn1.bias": torch.full((64,), torch.nan)})
    assert main([*command, "--weights", str(tmp_path / "nan.pth")]) == 2
    assert "bn1.bias is not finite" in capsys.readouterr().err and not (tmp_path / "run").exists()
    assert main([*command, "--weights", str(r50_file[0])]) == 0
    config = load_config(tmp_path / "run")
    assert config.gol.weights == {"file": str(r50_file[0])}
    detector = gol.build_detector(config)
    assert torch.equal(detector.backbone.layer1[0].conv1.weight, resnet50.layer1[0].conv1.weight)
    assert not published_r50.requests
