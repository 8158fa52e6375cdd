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
from gol.config.resolve import save_config
from gol.data.demo.draw import draw_demo
from gol.engine.train import train

BIN = Path(sys.executable).parent
RUN = "results/own_small/runs/own_small/gumbel/seed0"
LENGTH = {"runner.max_iters": 12, "gol.validate_every": 6, "lr_config.warmup_iters": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, root):
    """A checkout whose own_small/* have the demo's backbone and image size, and a drawn export."""
    folder = tmp_path_factory.mktemp("own")
    for name in ("gol", "workflow", "configs", "profiles"):
        shutil.copytree(root / name, folder / name)
    shutil.copy(root / "Snakefile", folder)
    for name, old, new in (
        (
            "experiments",
            "init: mask_rcnn_r50_coco}",
            "init: mask_rcnn_r50_coco, backbone: r18_demo}",
        ),
        ("axes", "[[512, 512]]", "[[96, 96]]"),
    ):
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


def typed(folder, program, *words, code=0):
    """Runs a command in the folder; returns what it printed."""
    result = subprocess.run(
        [BIN / program, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
    )
    assert result.returncode == code, result.stderr[-3000:]
    return result.stdout + result.stderr


def changes(values):
    return [f"{key}={value}" for key, value in values.items()]


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
def test_three_commands_lead_from_an_export_to_a_table_and_pictures(folder, zoo):
    typed(folder, "gol", "import", "export.zip", "--out", "data/mine")
    typed(folder, "gol", "split", "data/mine/annotations.json", "--out", "data/mine/split")
    dataset = "data/mine/split/photos.yaml"
    config = (f"dataset={dataset}", f"init={zoo}", "experiments=[own_small/gumbel]")
    pipeline = ("reproduce_table", "--configfile", "configs/own_small.yaml", "--config", *config)
    said = typed(folder, "snakemake", *pipeline, f"set={json.dumps(LENGTH)}")
    assert re.search(rf"starts from \S*{zoo}", said)
    assert int(re.search(r"by name: rows of (\d+) of 12 classes", said)[1]) >= 8

    results, run = folder / "results/own_small", folder / RUN
    table = (results / "table.md").read_text()
    assert table in said and "dataset photos, 8 images" in table and "published" not in table
    assert "published" not in (results / "report.html").read_text()
    validated = [json.loads(line) for line in (run / "validation.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in validated] == [6, 12] and (run / "best.pth").exists()

    # From scratch the same iterations lead less far.
    data = f"{results.relative_to(folder)}/data/photos"
    words = ("own_small/gumbel", "--dataset", dataset, "--data", data, "--run", "scratch")
    typed(folder, "gol", "config", *words, "--init", "none", "--set", *changes(LENGTH))
    typed(folder, "gol", "train", "scratch")
    (*_, scratch) = (folder / "scratch/validation.jsonl").read_text().splitlines()
    assert validated[-1]["segm_AP"] > json.loads(scratch)["segm_AP"]

    said = typed(folder, "gol", "predict", RUN, "drawn/val", "--out", "found", "--score", "0.01")
    assert "objects in 12 photos" in said
    assert len([*(folder / "found").glob("*.jpg")]) == 12
    assert json.loads((folder / "found/detections.json").read_text())
