"""The cost of a pipeline against what mmdet does, what a training writes, and hand reckoning."""

import json
import math
import os
import random
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from run_folders import bill, edit_gol, make_run

from gol.cli import epochs, main
from gol.cli.epochs import EpochLength, epoch_length
from gol.cli.plan import ASSUMED, count_parameters, disk_bytes, download_bytes, estimate
from gol.cli.plan_table import format_plan
from gol.config.axes import axis_values
from gol.config.datasets import load_dataset
from gol.config.pipeline import read_pipeline
from gol.config.resolve import load_experiment
from gol.data.store import AnnotationStore
from gol.engine.checkpoints import KEEP, save_checkpoint
from gol.files import configs_folder, read_yaml
from gol.losses.class_statistics import ClassStatistics
from gol.models import build_detector
from gol.run_folder import RunFolder
from gol.sources.raw import downloads

R50, RFS = "activations/r50_4x4_1x", "activations/r50_rfs_4x4_2x_softmax_lvisv0.5"


def write_store(folder, images):
    """What `gol preprocess` writes of images, given as (shorter side, classes)."""
    pairs = [(image, name) for image, (_, names) in enumerate(images) for name in names]
    data = {
        "images": [
            {"id": index, "file_name": f"{index}.jpg", "width": 640, "height": side}
            for index, (side, _) in enumerate(images)
        ],
        "annotations": [
            {"id": index, "image_id": image, "category_id": name, "bbox": [0, 0, 9, 9], "area": 81}
            for index, (image, name) in enumerate(pairs)
        ],
        "categories": [{"id": k, "name": str(k)} for k in range(1, 26)],
    }
    AnnotationStore.from_annotations(data).save(folder / "train.store")
    return ClassStatistics.from_annotations(data)


@pytest.mark.parametrize("threshold", [0.001, 0.02, 0.3, 1.0])
def test_an_epoch_of_prepared_data_is_counted_by_the_published_formula(threshold, tmp_path):
    weights = [1.5**-k for k in range(25)]
    images = [
        (random.choice([31, 32, 480]), set(random.choices(range(1, 26), weights, k=number)))
        for number in random.choices(range(5), k=300)
    ]
    statistics = write_store(tmp_path, images)
    trained = [names for side, names in images if names and side >= 32]
    share = {k: sum(k in names for names in trained) / len(trained) for k in range(1, 26)}
    expected = sum(
        max(math.ceil(max(1, math.sqrt(threshold / share[name]))) for name in names)
        for names in trained
    )
    own = load_dataset("own")
    assert epoch_length(own, tmp_path, threshold) == EpochLength(expected, expected)
    assert epoch_length(own, tmp_path, None) == EpochLength(len(trained), len(trained))
    # Before, the class counts of the published sets bound it.
    write_store(tmp_path, [(480, names) for _, names in images])
    counted = epoch_length(own, tmp_path, threshold).least
    assert 0 <= counted - statistics.annotated_images <= epochs._repeats(statistics, threshold)


def test_lvis_is_known_before_it_is_there_and_own_data_is_not(tmp_path):
    assert epoch_length(load_dataset("lvis_v1"), tmp_path, None) == EpochLength(99_388, 99_388)
    bounds = epoch_length(load_dataset("lvis_v0_5"), tmp_path, 0.001)
    assert bounds.least == 56_740 < bounds.most < 1.5 * 56_740
    assert epoch_length(load_dataset("demo"), tmp_path, None) == EpochLength(700, 700)
    assert epoch_length(load_dataset("own"), tmp_path, None) is None


def test_the_plan_equals_hand_reckoning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    speed = random.uniform(5, 50)
    content = {"name": "mine", "experiments": [R50, RFS], "seeds": 3}
    plain, rfs = estimate(read_pipeline(content), throughput=speed).costs
    assert plain.images() == 3 * 12 * 99_388
    assert plain.iterations == 12 * 6_212  # 16 images an iteration, the last one 12
    assert plain.hours() == pytest.approx(3 * 12 * 99_388 / speed / 3600)
    assert rfs.images() == 3 * 24 * 56_740 < rfs.images("most")
    assert rfs.hours("most") == pytest.approx(rfs.images("most") / speed / 3600)
    assert (plain.throughput, plain.device) == (speed, None)
    assert estimate(read_pipeline(content)).of_tables is None
    apart = {"name": "mine", "tables": {"A": [RFS]}, "experiments": [R50], "seeds": 3}
    tables = estimate(read_pipeline(apart), throughput=speed).of_tables
    assert (tables.runs, tables.hours()) == (3, rfs.hours())
    changed = estimate(read_pipeline({**content, "set": {"runner.max_epochs": 5}})).costs
    assert [cost.epochs for cost in changed] == [5, 5]
    assert [cost.hours() for cost in changed] == [
        3 * 5 * images / ASSUMED / 3600 for images in (99_388, 56_740)
    ]


@pytest.mark.parametrize("schedule", ["demo", "demo_adamw", "1x"])
def test_disk_is_what_checkpoints_take(schedule, demo_data, tmp_path):
    from mmcv.runner import build_optimizer

    config = load_experiment("demo/gol", {"schedule": schedule}, demo_data)
    config.model.backbone.frozen_stages = random.choice([-1, 1])
    detector = build_detector(config).train()
    optimizer = build_optimizer(detector, config.optimizer)
    for parameter in detector.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    for name in range(KEEP):
        states = {"state_dict": detector.state_dict(), "optimizer": optimizer.state_dict()}
        save_checkpoint(tmp_path / f"{name}.pth", **states)
    save_checkpoint(tmp_path / "model.pth", state_dict=detector.state_dict())
    written = sum(path.stat().st_size for path in tmp_path.iterdir())
    counts = count_parameters(config.model)
    assert counts[0] == sum(parameter.numel() for parameter in detector.parameters())
    # The archive's headers take a few per cent of so small a model.
    assert disk_bytes(*counts, config.optimizer) == pytest.approx(written, rel=0.1)


def as_run(folder, name, **train):
    """A finished run of an experiment of the paper."""
    run = make_run(folder, seed=random.randrange(9))
    content = load_experiment(name, None, os.devnull)._cfg_dict.to_dict()
    (run / "config.json").write_text(json.dumps(content))
    content = json.loads((run / "train.json").read_text())
    (run / "train.json").write_text(json.dumps({**content, **train}))
    return run


def test_throughput_is_measured_per_device_and_for_the_same_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = read_pipeline(
        {"name": "mine", "experiments": [R50, RFS, "activations/r101_4x4_1x"], "seeds": 2}
    )
    assert {(cost.throughput, cost.assumed) for cost in estimate(pipeline).costs} == {(23, True)}
    pilot = as_run(tmp_path / "pilot", R50, images_per_second=40, ranks=4, device="cuda:0")
    own = tmp_path / pipeline.runs(R50)[1]
    as_run(own, R50, images_per_second=14, device="cuda:0")
    found = [
        (c.throughput, c.device, c.assumed) for c in estimate(pipeline, measured=[pilot]).costs
    ]
    assert found == [(12, "cuda", False), (12, "cuda", False), (23, None, True)]


def test_what_finished_runs_took_stands_beside_the_plan_for_as_many(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = read_pipeline({"name": "mine", "experiments": [R50, RFS], "seeds": 2})
    assert estimate(pipeline).values()["spent"] == {"runs": 0, "training": {}, "detection": {}}
    assert "done" not in format_plan(estimate(pipeline), [])
    own = RunFolder(tmp_path / pipeline.runs(R50)[1])
    as_run(own.path, R50, images_per_second=20, device="cuda:0")
    bill(own.cost, {"seconds": 54_000.0, "energy_kwh": 21.5})
    bill(own.cost_of(own.detections("softmax")), {"seconds": 1800.0})
    plan = estimate(pipeline)
    assert plan.values()["spent"] == {
        "runs": 1,
        "training": {"gpu_hours": 60.0, "energy_kwh": 21.5},
        "detection": {"gpu_hours": 2.0},
    }
    planned = 12 * 99_388 / 20 / 3600  # 16.6
    assert plan.hours_of_done == pytest.approx(planned)
    words = "1 of 4 runs: training took 60.0 GPU-hours and 21.5 kWh (planned: 16.6), "
    assert f"done       {words}detection 2.00 GPU-hours\n" in format_plan(plan, [])


def test_a_training_that_is_calibrated_counts_once_and_every_detection(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = ["demo/softmax_norcal", "demo/softmax_fracal"]
    for experiments in (names[:1], ["demo/softmax", *names]):
        pipeline = read_pipeline({"name": f"of{len(experiments)}", "experiments": experiments})
        own = RunFolder(tmp_path / pipeline.runs(names[0])[0])
        as_run(own.path, "demo/softmax")
        bill(own.cost, {"seconds": 54_000.0})
        for scoring in ("softmax", "softmax+norcal", "softmax+fracal"):
            bill(own.cost_of(own.detections(scoring)), {"seconds": 900.0})
        plan = estimate(pipeline)
        assert plan.values()["spent"] == {
            "runs": 1,
            "training": {"gpu_hours": 60.0},
            "detection": {"gpu_hours": len(experiments)},
        }
        assert "done       1 of 1 run: training took 60.0 GPU-hours" in format_plan(plan, [])


def test_hours_of_a_cpu_are_those_of_cores(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pipeline = read_pipeline({"name": "mine", "experiments": [R50]})
    run = as_run(tmp_path / pipeline.runs(R50)[0], R50, images_per_second=12, ranks=2)
    edit_gol(run, threads=3)
    plan = estimate(pipeline)
    assert plan.costs[0].throughput == 2
    assert "CPU-hours  166\n" in format_plan(plan, []) and "GPU" not in format_plan(plan, [])


@pytest.mark.slow
def test_the_printed_plan(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = configs_folder() / "lvis.yaml"
    assert main(["plan", str(path), "--throughput", "8", "--gpus", "16"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    lines = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.strip()}
    names = read_pipeline(read_yaml(path)).trainings
    assert all(name in lines for name in names) and "– " not in text
    assert lines[R50][:5] == ["99,388", "12", "74,544", "8", "41"]  # 1,192,656 / 8 / 3600 hours
    assert lines["runs"][0] == "55"
    assert re.search(r"of these +14 runs, \d+ to \d+ GPU-hours for the tables", text)
    days = [float(word) for word in lines["on"] if word.replace(".", "").isdigit()][1:]
    hours = [float(lines["GPU-hours"][i].replace(",", "")) for i in (0, 2)]
    assert days == pytest.approx([value / 16 / 24 for value in hours], abs=0.06)


@pytest.mark.parametrize(
    ("experiment", "hours"), [(R50, "14"), ("demo/gumbel", "–")], ids=["full size", "small"]
)
def test_without_a_throughput_the_plan_says_how_to_give_one(
    experiment, hours, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"name": "m", "experiments": [experiment]}))
    assert main(["plan", "mine.yaml"]) == 0
    text = capsys.readouterr().out
    assert f"GPU-hours  {hours}\n" in text and "--throughput" in text and "--measured" in text
    assert ("Assumes 23 img/s per GPU" in text) == (hours != "–")


def test_the_command_that_the_plan_names_prepares_what_it_lacks(tmp_path, root, capsys):
    """Snakemake would draw and preprocess, and nothing else."""
    pipeline = tmp_path / "a pipeline.yaml"
    pipeline.write_text(yaml.safe_dump({"name": "unprepared", "experiments": ["demo/gumbel"]}))
    assert main(["plan", str(pipeline)]) == 0
    command = re.search("`(snakemake .*)`", capsys.readouterr().out)[1]
    snakemake = Path(sys.executable).with_name("snakemake")
    result = subprocess.run(
        [snakemake, *shlex.split(command)[1:], "--dry-run", "--directory", tmp_path],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    jobs = re.findall(r"^(\w+) +(\d+)$", result.stdout, re.MULTILINE)
    assert dict(jobs) == {"draw": "1", "preprocess": "1", "total": "2"}


def test_data_without_classes_is_refused_with_the_command_that_counts_them(
    tmp_path, monkeypatch, demo_data, capsys
):
    monkeypatch.chdir(tmp_path)
    own = axis_values("dataset")["own"]
    for split in ("train", "val"):
        own[split] = {
            "annotations": str(demo_data / f"raw/{split}.json"),
            "images": str(demo_data / f"raw/{split}"),
        }
    Path("mine.yaml").write_text(yaml.safe_dump(own))
    pipeline = {"name": "m", "experiments": ["demo/gumbel"]}
    Path("pipeline.yaml").write_text(yaml.safe_dump(pipeline))
    assert main(["plan", "pipeline.yaml", "--dataset", "mine.yaml"]) == 2
    command = re.search("`(.*)`", capsys.readouterr().err)[1]
    program, counts, *rest = shlex.split(command)
    named = ["--config", "dataset=mine.yaml"]
    assert [program, *rest] == ["snakemake", "--configfile", "pipeline.yaml", *named]
    assert main(["preprocess", "--dataset", "mine.yaml", "--out", str(Path(counts).parent)]) == 0
    capsys.readouterr()
    assert main(["plan", "pipeline.yaml", "--dataset", "mine.yaml", "--throughput", "9"]) == 0
    assert "–" not in capsys.readouterr().out


def test_downloads_count_each_file_once():
    both = ["lvis_v1", "lvis_v0_5"]
    size, unknown = download_bytes(both)
    assert size == sum(entry.get("bytes", 0) for entry in downloads().values())
    assert len(unknown) == 2
    assert download_bytes(["demo"]) == (0, [])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.yaml"], "cannot read missing.yaml"),
        (["list.yaml"], "list.yaml is not a pipeline file"),
        (["wrong.yaml"], "unknown experiment 'demo/gumble'"),
        (["right.yaml", "--measured", "nowhere"], "cannot read nowhere/config.json"),
        (["right.yaml", "--measured", "empty"], "empty/config.json is not a resolved config"),
    ],
)
def test_bad_input_is_one_line(arguments, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("[1]")
    (tmp_path / "wrong.yaml").write_text("{name: a, experiments: [demo/gumble]}")
    (tmp_path / "right.yaml").write_text("{name: a, experiments: [demo/gumbel]}")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.json").write_text("{}")
    assert main(["plan", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and words in lines[0]


@pytest.mark.parametrize("option", [["--throughput", "0"], ["--throughput", "x"], ["--gpus", "0"]])
def test_no_throughput_of_nothing(option, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["plan", "configs/demo.yaml", *option])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert "must be a number above 0" in error or "must be a whole number, 1 or more" in error


def test_own_data_are_to_be_prepared_first_with_the_command_that_is_named(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    path = configs_folder() / "own.yaml"
    assert main(["plan", str(path)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert f"`snakemake results/own/data/own/classes.json --configfile {path}`" in said
