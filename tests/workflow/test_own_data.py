"""The three commands of own data, as typed, from a detector in the form of mmdet's zoo."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import gol
from gol.cli import main
from gol.config.resolve import save_config
from gol.data.demo.draw import draw_demo
from gol.engine.train import train

BIN = Path(sys.executable).parent
RUN = Path("results/own_small/runs/own_small/gumbel/seed0")
ROWS = "experiments=[own_small/gumbel]"
LENGTH = {"runner.max_iters": 12, "gol.validate_every": 6, "lr_config.warmup_iters": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, root):
    """A checkout whose own_small/* have the demo's backbone and image size, and a drawn export."""
    folder = tmp_path_factory.mktemp("own")
    for name in ("gol", "workflow", "configs", "profiles"):
        shutil.copytree(root / name, folder / name)
    shutil.copy(root / "Snakefile", folder)
    coco = "init: mask_rcnn_r50_coco"
    changed = {
        "experiments": (f"{coco}}}", f"{coco}, backbone: r18_demo}}"),
        "axes": ("[[512, 512]]", "[[96, 96]]"),
    }
    for name, (old, new) in changed.items():
        path = folder / f"configs/{name}.yaml"
        assert path.read_text().count(old) == 1
        path.write_text(path.read_text().replace(old, new))
    draw_demo(folder / "drawn", seed=5, train_images=40, val_images=12, classes=12)
    labels = json.loads((folder / "drawn/train.json").read_text())
    for image in labels["images"]:
        image["file_name"] = Path(image.pop("coco_url")).name
    (folder / "drawn/train/labels.json").write_text(json.dumps(labels))
    shutil.make_archive(folder / "export", "zip", folder / "drawn/train")
    return folder


@pytest.fixture(scope="module")
def zoo(folder, demo_data):
    """A detector of 40 classes, trained on other drawn images: a pickle with CLASSES in meta."""
    run = folder / "coco"
    save_config(gol.load_experiment("demo/softmax", {"runner.max_epochs": 8}, demo_data), run)
    train(run, "cpu")
    trained = torch.load(run / "model.pth", weights_only=True)
    meta = {"mmdet_version": "2.3.0", "CLASSES": tuple(trained["meta"]["CLASSES"])}
    path = folder / "mask_rcnn_3e542a40.pth"
    torch.save({"meta": meta, "state_dict": trained["state_dict"]}, path)
    return path.name


@pytest.mark.slow
def test_three_commands_lead_from_an_export_to_a_table_and_pictures(
    folder, zoo, monkeypatch, capsys
):
    monkeypatch.chdir(folder)
    assert main(["import", "export.zip", "--out", "data/mine"]) == 0
    assert main(["split", "data/mine/annotations.json", "--out", "data/mine/split"]) == 0
    config = ["dataset=data/mine/split/photos.yaml", f"init={zoo}", f"set={json.dumps(LENGTH)}"]
    pipeline = ["--configfile", "configs/own_small.yaml", "--config", *config, ROWS]
    result = subprocess.run(
        [BIN / "snakemake", "reproduce_table", *pipeline],
        env={**os.environ, "PYTHONPATH": str(folder)},  # with the configs of the folder
        capture_output=True,
        text=True,
    )
    said = result.stdout + result.stderr
    assert result.returncode == 0, said[-3000:]
    assert re.search(rf"starts from \S*{zoo}", said)
    assert int(re.search(r"by name: rows of (\d+) of 12 classes", said)[1]) >= 8

    results = Path("results/own_small")
    table = (results / "table.md").read_text()
    assert table in said and "dataset photos, 8 images" in table and "published" not in table
    report = (results / "report.html").read_text()
    assert "Gumbel has mask AP " in report and "published" not in report
    iterations, aps = zip(*validated(RUN), strict=True)
    assert iterations == (6, 12) and (RUN / "best.pth").exists()

    # From scratch the same iterations lead less far.
    config = json.loads((RUN / "config.json").read_text())
    config["gol"]["init"] = None
    scratch = Path("scratch")
    scratch.mkdir()
    (scratch / "config.json").write_text(json.dumps(config))
    train(scratch, "cpu")
    assert max(aps) > max(ap for _, ap in validated(scratch))

    capsys.readouterr()
    assert main(["predict", str(RUN), "drawn/val", "--out", "found", "--score", "0.01"]) == 0
    assert "objects in 12 photos" in capsys.readouterr().out
    assert len([*Path("found").glob("*.jpg")]) == 12
    assert json.loads(Path("found/detections.json").read_text())


def validated(run):
    """(iteration, mask AP) of each validation."""
    lines = map(json.loads, (run / "validation.jsonl").read_text().splitlines())
    return [(line["iteration"], line["segm_AP"]) for line in lines]
