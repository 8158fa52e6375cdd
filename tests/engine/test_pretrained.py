"""Official checkpoints: names and shapes are stock mmdet's, files go both ways, detection runs."""

import importlib.util
import json
from pathlib import Path

import facts
import numpy as np
import pytest
import torch
from fault_server import serve
from PIL import Image

import gol
from gol import compat
from gol.cli import main
from gol.config.experiments import experiment
from gol.config.resolve import load_experiment
from gol.engine.checkpoints import save_checkpoint
from gol.engine.pretrained import pretrained
from gol.errors import UserError
from gol.models.state import load_checkpoint, load_weights

V1 = "GOL_r50_v1"


def stock_detector(classes, depth, version):
    """mmdet's own LVIS Mask R-CNN with what the original's config changes: classes and mask head.

    The original's DropLoss has one logit a class, none for the background, and no tensors.
    """
    compat.apply()
    from mmcv import Config
    from mmdet.models import build_detector

    import gol.models  # noqa: F401  (registers DropLoss)

    folder = Path(importlib.util.find_spec("mmdet").origin).parent / ".mim/configs/lvis"
    epochs = {"v1": 1, "v0.5": 2}[version]
    name = f"mask_rcnn_r{depth}_fpn_sample1e-3_mstrain_{epochs}x_lvis_{version}.py"
    model = Config.fromfile(folder / name).model
    model.backbone.init_cfg = None
    loss = {"type": "DropLoss", "version": version.replace(".", "_"), "num_classes": classes}
    model.roi_head.bbox_head.loss_cls = loss
    model.roi_head.mask_head.predictor_cfg = {"type": "NormedConv2d", "tempearture": 20}
    return build_detector(model)


def shapes(state):
    return {key: tuple(value.shape) for key, value in state.items()}


def test_the_table_is_the_published_one():
    assert pretrained() == {
        name: {"experiment": fact["config"], "url": f"{fact['weights']}?dl=1"}
        for name, fact in facts.paper()["pretrained"].items()
    }


@pytest.mark.parametrize("name", pretrained())
def test_published_numbers_stand_beside_the_experiment(name):
    published = experiment(pretrained()[name]["experiment"]).published
    assert published == facts.paper()["pretrained"][name]["results"]


@pytest.mark.parametrize("name", pretrained())
def test_names_and_shapes_are_the_original_s(name):
    version, depth = ("v0.5", 50) if name.endswith("v0.5") else ("v1", int(name.split("_")[1][1:]))
    classes = {"v1": 1203, "v0.5": 1230}[version]
    config = load_experiment(pretrained()[name]["experiment"])
    with torch.device("meta"):  # shapes need no memory
        ours = shapes(gol.build_detector(config, initialise=False).state_dict())
        assert ours == shapes(stock_detector(classes, depth, version).state_dict())
    # and, not to trust mmdet alone, what the paper's text says of the heads
    head = "roi_head.bbox_head"
    assert ours[f"{head}.fc_cls.weight"] == (classes, 1024)
    assert ours[f"{head}.fc_reg.weight"] == (4 * classes, 1024)
    assert ours["roi_head.mask_head.conv_logits.weight"] == (classes, 256, 1, 1)
    assert not [key for key in ours if "loss" in key]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A checkpoint that mmcv wrote of mmdet's detector, as the official ones were made."""
    detector = stock_detector(1203, 50, "v1")
    from mmcv.runner import save_checkpoint

    for buffer in detector.buffers():
        if buffer.is_floating_point():
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    detector.CLASSES = tuple(f"class {i}" for i in range(1203))
    optimizer = torch.optim.SGD(detector.parameters(), lr=0.02, momentum=0.9)
    path = tmp_path_factory.mktemp("official") / "epoch_24.pth"
    hooks = {"best_score": np.float64(0.277), "counts": np.arange(3), "best_ckpt": "x.pth"}
    meta = {"epoch": 24, "iter": 150000, "seed": np.int64(1), "hook_msgs": hooks, "config": "a = 1"}
    save_checkpoint(detector, str(path), optimizer, meta)
    return path, detector


@pytest.fixture
def data(tmp_path, monkeypatch):
    """A prepared set with LVIS v1's classes, an image a split, where configs/datasets has it."""
    from gol.losses.class_statistics import ClassStatistics

    monkeypatch.chdir(tmp_path)
    classes = ClassStatistics.published("v1")
    rng = np.random.default_rng()
    images = tmp_path / "data/coco/train2017"
    for folder in (images, tmp_path / "data/lvis_v1/annotations"):
        folder.mkdir(parents=True)
    keys = zip(classes.ids, classes.names, classes.frequencies, strict=True)
    counts = {"image_count": 1, "instance_count": 1}
    categories = [{"id": i, "name": n, "frequency": f, **counts} for i, n, f in keys]
    for number, split in ((1, "train"), (2, "val")):
        pixels = rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(images / f"{number:012d}.jpg")
        image = {
            "id": number,
            "width": 64,
            "height": 48,
            "coco_url": f"http://images.cocodataset.org/train2017/{number:012d}.jpg",
            "neg_category_ids": [],
            "not_exhaustive_category_ids": [],
        }
        annotation = {
            "id": 1,
            "image_id": number,
            "category_id": number,
            "bbox": [8, 8, 30, 20],
            "area": 600,
            "segmentation": [[8, 8, 38, 8, 38, 28, 8, 28]],
        }
        content = {"images": [image], "annotations": [annotation], "categories": categories}
        path = tmp_path / f"data/lvis_v1/annotations/lvis_v1_{split}.json"
        path.write_text(json.dumps(content))
    assert (
        main(["preprocess", "--dataset", "lvis_v1", "--out", "results/lvis_v1/data/lvis_v1"]) == 0
    )
    return tmp_path


@pytest.mark.slow
def test_a_file_of_mmcv_becomes_a_run(official, data):
    path, detector = official
    command = ["pretrained", V1, "--run", "run", "--file", str(path)]
    for _ in range(2):
        assert main(command) == 0
    content = load_checkpoint("run/model.pth")
    assert content["meta"]["CLASSES"][1202] == "class 1202"
    for key, value in detector.state_dict().items():
        assert torch.equal(content["state_dict"][key], value), key
    # mmcv saves what torch would not: the loss's frequencies follow from the config
    assert "roi_head.bbox_head.loss_cls.freq_info" in load_checkpoint(path)["state_dict"]


@pytest.mark.slow
def test_an_official_run_detects_and_scores(official, data):
    assert main(["pretrained", V1, "--run", "run", "--file", str(official[0])]) == 0
    assert main(["detect", "run", "--out", "detections.json", "--device", "cpu"]) == 0
    assert (
        main(["evaluate", "results/lvis_v1/data/lvis_v1/val.json", "detections.json", "--out", "e"])
        == 0
    )
    assert len(json.loads(Path("detections.json").read_text())) == 300  # the most LVIS allows
    assert 0 <= json.loads(Path("e").read_text())["segm"]["AP"] <= 1


def test_a_folder_with_a_training_is_left_alone(data, capsys):
    Path("run/checkpoints").mkdir(parents=True)
    assert main(["pretrained", V1, "--run", "run", "--file", "x"]) == 2
    assert "run was trained already (it has checkpoints)" in capsys.readouterr().err
    assert main(["config", "demo/gumbel", "--run", "other"]) == 0
    assert main(["pretrained", V1, "--run", "other", "--file", "x"]) == 2
    assert "is of another experiment" in capsys.readouterr().err


def test_a_checkpoint_that_does_not_fit_is_refused(data, capsys):
    state = {"roi_head.bbox_head.fc_cls.bias": torch.zeros(1204)}
    save_checkpoint("epoch.pth", state_dict=state, meta={})
    assert main(["pretrained", V1, "--run", "run", "--file", "epoch.pth"]) == 2
    error = capsys.readouterr().err
    assert "epoch.pth does not fit the model: missing backbone.conv1.weight" in error
    assert not Path("run").exists()


@pytest.mark.slow
def test_ours_loads_strictly_in_stock_mmdet(official, tmp_path):
    _, stock = official
    from mmcv.runner import load_checkpoint

    config = load_experiment(pretrained()[V1]["experiment"])
    config.gol.weights = None
    ours = gol.build_detector(config, initialise=False)
    save_checkpoint(tmp_path / "m.pth", state_dict=ours.state_dict(), meta={"CLASSES": ["a"]})
    before = {key: value.clone() for key, value in stock.state_dict().items()}
    load_checkpoint(stock, str(tmp_path / "m.pth"), map_location="cpu", strict=True)
    for key, value in stock.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    stock.load_state_dict(before)  # shared with other tests


def test_code_in_a_checkpoint_is_never_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "owned",))

    torch.save({"state_dict": {}, "meta": Evil()}, tmp_path / "epoch.pth")
    with pytest.raises(UserError, match=r"epoch\.pth is not a checkpoint of tensors"):
        load_weights(torch.nn.Linear(1, 1), tmp_path / "epoch.pth")
    assert not (tmp_path / "owned").exists()


def test_download_into_a_file_a_folder_and_the_cache(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    (tmp_path / "folder").mkdir()
    content = np.random.default_rng().bytes(300_000)
    with serve() as server:
        url = server.add("s/epoch_24.pth", content, etag='"1"', drops=[100_000])
        monkeypatch.setitem(pretrained()[V1], "url", f"{url}?dl=1")
        for out in (["--out", f"{tmp_path}/f.pth"], ["--out", f"{tmp_path}/folder"], []):
            assert main(["pretrained", V1, *out]) == 0
            assert Path(capsys.readouterr().out.strip()).read_bytes() == content
        assert (tmp_path / "folder" / f"{V1}.pth").exists()
        count = len(server.requests)
        assert main(["pretrained", V1]) == 0
        assert len(server.requests) == count
    assert main(["pretrained", "GOL"]) == 2
    assert f"unknown checkpoint 'GOL'; allowed: {V1}, " in capsys.readouterr().err
    assert main(["pretrained"]) == 0
    assert "AP 27.7  APr 21.4" in capsys.readouterr().out
