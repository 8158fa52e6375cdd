"""The Snakemake workflow as a user types it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from processes import Process

from gol.config.pipeline import read_pipeline
from gol.files import configs_folder, read_yaml

BIN = Path(sys.executable).parent


def snakemake(folder, *arguments, timeout=1200, **variables):
    return subprocess.run(
        [BIN / "snakemake", *arguments],
        cwd=folder,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def dry_run(folder, *arguments):
    """(exit code, stdout, stderr) of ``snakemake -n``."""
    return Process("-m", "snakemake", "-n", *arguments, folder=folder).finish()


def planned(code, out, errors):
    """Rule to number of jobs, from a dry run."""
    assert code == 0, errors
    lines = [line.split() for line in (out + errors).splitlines()]
    return {
        words[0]: int(words[1])
        for words in lines
        if len(words) == 2 and words[0].isidentifier() and words[1].isdigit()
    }


@pytest.fixture(scope="module")
def checkout(tmp_path_factory, root):
    """A copy of what the workflow needs, so that nothing is written into this one."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("workflow", "configs", "profiles"):
        shutil.copytree(root / name, folder / name)
    shutil.copy(root / "Snakefile", folder)
    (folder / "slurm").symlink_to("profiles/slurm")
    return folder


def write_pipeline(folder, name="small", **values):
    """A pipeline on a small demo that trains for two epochs."""
    dataset = yaml.safe_load((folder / "configs/datasets/demo.yaml").read_text())
    dataset["draw"] = {"seed": 1, "train_images": 40, "val_images": 24, "classes": 12}
    dataset["num_classes"] = 12
    (folder / "small_data.yaml").write_text(yaml.safe_dump(dataset))
    pipeline = {
        "name": name,
        "dataset": "small_data.yaml",
        "experiments": ["demo/sigmoid", "demo/gol"],
        "set": {"runner.max_epochs": 2},
        **values,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(pipeline))
    return path


@pytest.mark.parametrize("target", ["all", "reproduce_table"])
def test_dry_run_of_the_default_pipeline_plans_every_step(checkout, target):
    assert planned(*dry_run(checkout, target)) == {
        **dict.fromkeys(
            ("draw", "preprocess", "store", "table", "page", "track_pipeline", target), 1
        ),
        **{name: 3 for name in ("config", "train", "track")},
        **{name: 4 for name in ("detect", "evaluate")},
        "total": 24,
    }


@pytest.mark.parametrize(("target", "trainings"), [("all", 55), ("reproduce_table", 14)])
def test_dry_run_of_the_paper_plans_its_trainings_on_both_versions_of_lvis(
    checkout, tmp_path, target, trainings
):
    for name in ("workflow", "configs", "profiles", "Snakefile"):
        (tmp_path / name).symlink_to(checkout / name)
    result = dry_run(tmp_path, target, "--configfile", "configs/lvis.yaml")
    jobs = planned(*result)
    assert jobs["train"] == jobs["config"] == jobs["track"] == trainings
    assert (
        jobs["download"] == 6
        and jobs["preprocess"] == 2
        and jobs.get("grid", 0) == (target == "all")
    )
    pipeline = read_pipeline(read_yaml(configs_folder() / "lvis.yaml"))
    names = pipeline.experiments if target == "all" else pipeline.layout.experiments
    scores = sum(len(pipeline.scorings(name)) for name in names)
    assert jobs["detect"] == jobs["evaluate"] == scores > trainings
    assert "results/lvis/figures/softmax_against_gumbel.png" in result[1]
    assert "results/lvis/data/lvis_v0_5/train.json" in result[1]


def test_the_command_line_changes_the_default_pipeline(checkout):
    jobs = planned(*dry_run(checkout, "--config", "name=seeds", "seeds=3"))
    assert jobs["train"] == 9


def test_other_protocols_are_scored_where_a_pipeline_asks(checkout):
    path = write_pipeline(checkout, "asks", protocols=["fixed", "olrp"], per_class=50)
    jobs = planned(*dry_run(checkout, "reproduce_table", "--configfile", path))
    assert jobs["detect"] == jobs["evaluate"] == jobs["detect_per_class"] == 3
    assert jobs["evaluate_by"] == 6


def test_a_calibrated_experiment_alone_is_scored_and_tracked_with_the_run_it_is_made_of(checkout):
    path = write_pipeline(checkout, "moved", experiments=["demo/softmax_norcal"])
    result = dry_run(checkout, "reproduce_table", "--configfile", path)
    jobs = planned(*result)
    assert jobs["train"] == jobs["track"] == 1 and jobs["detect"] == jobs["evaluate"] == 2
    track = "".join(result[1:]).split("rule track:")[1].split("output:")[0]
    assert "evaluation/softmax.json" in track and "evaluation/softmax+norcal.json" in track


def test_lint_and_format(root):
    assert snakemake(root, "--lint").returncode == 0
    formatted = subprocess.run([BIN / "snakefmt", "--check", "Snakefile", "workflow"], cwd=root)
    assert formatted.returncode == 0


def test_a_bad_pipeline_file_is_refused_before_anything_runs(checkout):
    path = write_pipeline(checkout, "bad", expochs=3)
    code, _, errors = dry_run(checkout, "--configfile", path)
    assert code == 2
    lines = [line for line in errors.splitlines() if "error" in line]
    assert lines == [
        "pipeline file: error: unknown key 'expochs'; "
        "allowed: name, dataset, experiments, tables, figures, variants, baseline, seeds, "
        "threads, init, protocols, per_class, set"
    ]
    assert not (checkout / "results" / "bad").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("{optimizer.lr: fast}", "override optimizer.lr: must be a number above 0"),
        ("{runner.max_epochs: 0}", "key 'runner.max_epochs' must be at least 1, not 0"),
    ],
)
def test_a_bad_set_on_the_command_line_is_refused_before_anything_runs(checkout, value, words):
    code, _, errors = dry_run(checkout, "--config", "name=bad", f"set={value}")
    (line,) = [line for line in errors.splitlines() if "error" in line]
    assert code == 2 and line.startswith(f"pipeline file: error: {words}")


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("trian:runtime=1h", "unknown rule 'trian' in set-resources; did you mean 'train'?"),
        ("train:slurm_partion=x", "'slurm_partion' in set-resources of train; did you mean"),
        ("a\nb:slurm_partion=x", "'slurm_partion' in set-resources of a b; did you mean"),
    ],
)
def test_resources_that_nobody_reads_are_refused(checkout, given, words):
    code, _, errors = dry_run(checkout, "--set-resources", given)
    (line,) = [line for line in errors.splitlines() if "error" in line]
    assert code == 2 and line.startswith("snakemake: error: unknown") and words in line


def test_a_larger_workflow_has_rules_of_its_own(checkout, tmp_path):
    (tmp_path / "configs").symlink_to(checkout / "configs")
    lines = ['configfile: "configs/demo.yaml"']
    lines += [f'module ours:\n    snakefile: "{checkout}/Snakefile"\n    config: config']
    lines += ["use rule * from ours as ours_*", 'rule own:\n    shell: "true"\n']
    (tmp_path / "Snakefile").write_text("\n".join(lines))
    resources = ("own:fancy=5", "ours_train:gpu=2", "ours_train:qos=high")
    defaults = ("--default-resources", "licence=1")
    code, _, errors = dry_run(tmp_path, "own", "--set-resources", *resources, *defaults)
    assert code == 0, errors
    code, out, errors = dry_run(tmp_path, "-p", "ours_all", "--set-resources", *resources)
    assert code == 0 and "--qos=high" in out + errors and "--gpus-per-node=2" in out + errors
    code, _, errors = dry_run(tmp_path, "own", "--set-resources", "ours_train:fancy=5")
    assert code == 2 and "unknown resource 'fancy' in set-resources of ours_train" in errors


def test_resources_by_the_names_of_snakemake_s_slurm_plug_in_arrive(checkout):
    given = ("train:gpu=2", "train:qos=high", "train:gres=gpu:2", "train:mem_mb_per_cpu=5")
    _, out, errors = dry_run(checkout, "-p", "--profile", "slurm", "--set-resources", *given)
    (train, *_) = [line for line in out.splitlines() + errors.splitlines() if "gol launch" in line]
    options = ("--gpus-per-node=2", "--qos=high", "--gres=gpu:2", "--mem-mb-per-cpu=5")
    assert all(option in train for option in options)


def test_dry_run_of_rows_with_changes_plans_a_training_each(checkout):
    tables = {"{all} of them": RATES}
    path = write_pipeline(checkout, "rates", experiments=[], tables=tables, seeds=2)
    # Text, as Snakemake's command line delivers it.
    result = dry_run(checkout, "-p", "--configfile", str(path), "--config", "set={gol.threads: 1}")
    jobs = planned(*result)
    assert jobs["train"] == jobs["config"] == jobs["track"] == 4 and jobs["preprocess"] == 1
    assert "gol config demo/gumbel@slow --seed 1 --run results/rates/runs/" in result[1]


RATES = [
    "demo/gumbel",
    {"demo/gumbel@slow": {"set": {"optimizer.lr": "1e-3"}, "label": "Gumbel, lr 0.001"}},
]


@pytest.mark.slow
def test_the_chain_end_to_end_and_again(checkout):
    """Two experiments, and two learning rates of a third as two rows of one table."""
    experiments, short = ["demo/sigmoid", "demo/gol", *RATES], {"runner.max_epochs": 1}
    path = write_pipeline(checkout, experiments=experiments, set=short)
    result = snakemake(checkout, "reproduce_table", "--configfile", str(path))
    assert result.returncode == 0, result.stderr[-3000:]
    results = checkout / "results" / "small"
    for name in ("table.md", "table.csv", "table.tex", "figures/ap_by_group.pdf", "report.html"):
        assert (results / name).stat().st_size > 100
    table = (results / "table.md").read_text()
    assert table in result.stdout
    places = dict(line.split(maxsplit=1) for line in result.stdout.splitlines()[-4:])
    assert places["table"] == "results/small/table.md" and places["figures"].endswith("/figures")
    assert places["report"] == "results/small/report.html"
    assert "workflowType=machine_learning" in places["mlflow"]
    assert "scored with softmax" in table and "GOL" in table and "not LVIS" in table
    for scoring in ("softmax", "sigmoid"):
        scores = json.loads(
            (results / f"runs/demo/sigmoid/seed0/evaluation/{scoring}.json").read_text()
        )
        assert 0 <= scores["segm"]["AP"] <= 1 and scores["images"] == 24
    rates = [results / f"runs/{name}/seed0" for name in ("demo/gumbel", "demo/gumbel@slow")]
    configs = [json.loads((run / "config.json").read_text()) for run in rates]
    assert [config["optimizer"]["lr"] for config in configs] == [0.04, 0.001]
    assert len({(run / "model.pth").read_bytes() for run in rates}) == 2
    rows = [line.split(" | ")[0].strip("| ") for line in table.splitlines() if line[:1] == "|"]
    # No published numbers between them: small_data is not what those were measured on.
    assert rows[rows.index("Gumbel") + 1] == "Gumbel, lr 0.001"

    again = snakemake(checkout, "all", "--configfile", str(path))
    assert again.returncode == 0 and "Nothing to be done" in again.stdout + again.stderr

    shown = snakemake(checkout, "--report", "all.html", "--configfile", str(path))
    assert shown.returncode == 0, shown.stderr[-3000:]
    text = (checkout / "all.html").read_text()
    for part in ("report.html", "table.csv", "ap_by_group.png", "one bar per method"):
        assert part in text, part

    import sqlite3

    with sqlite3.connect(checkout / "mlflow.db") as store:
        # Other tests of this module may have tracked theirs already.
        tracked = "select count(*) from runs join experiments e using (experiment_id) "
        found = store.execute(f"{tracked} where e.name = 'small'").fetchone()
        assert found == (5,)  # four runs and their parent

    # A changed setting under the same name would mix two experiments in one folder.
    changed = write_pipeline(checkout, experiments=experiments, set={"runner.max_epochs": 3})
    mixed = snakemake(checkout, "reproduce_table", "--configfile", str(changed))
    assert mixed.returncode != 0
    assert "trained with another configuration" in mixed.stderr + mixed.stdout


@pytest.mark.slow
def test_two_datasets_side_by_side_in_titled_tables_and_a_figure(tmp_path, root):
    for name in ("gol", "workflow", "configs", "profiles"):
        shutil.copytree(root / name, tmp_path / name)
    shutil.copy(root / "Snakefile", tmp_path)
    demo = yaml.safe_load((root / "configs/datasets/demo.yaml").read_text())
    table = yaml.safe_load((root / "configs/experiments.yaml").read_text())
    for name, classes in (("tiny_a", 12), ("tiny_b", 14)):
        draw = {"seed": classes, "train_images": 40, "val_images": 24, "classes": classes}
        dataset = {**demo, "draw": draw, "num_classes": classes}
        (tmp_path / f"configs/datasets/{name}.yaml").write_text(yaml.safe_dump(dataset))
        for activation in ("softmax", "gumbel"):
            axes = {**table[f"demo/{activation}"]["axes"], "dataset": name}
            published = {"AP": 20.0, "APr": 10.0}
            label = f"{activation} {name}"
            entry = {"label": label, "axes": axes, "published": published}
            table[f"{name}/{activation}"] = entry
    (tmp_path / "configs/experiments.yaml").write_text(yaml.safe_dump(table, sort_keys=False))
    both = {"tiny_a": {a: f"tiny_a/{a}" for a in ("softmax", "gumbel")}}
    both["tiny_b"] = {"softmax": "tiny_b/softmax"}
    pipeline = {
        "name": "two",
        "tables": {"A": ["tiny_a/gumbel"], "B": ["tiny_b/softmax"]},
        "figures": {"Both": both},
        "experiments": ["demo/gumbel"],
    }
    # `set` would make another training, whose published numbers these are not
    schedules = tmp_path / "configs/axes.yaml"
    schedules.write_text(schedules.read_text().replace("max_epochs: 16", "max_epochs: 1"))
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(pipeline))
    arguments = ("reproduce_table", "--configfile", "two.yaml")
    result = snakemake(tmp_path, *arguments, PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr[-3000:]
    results = tmp_path / "results/two"
    assert {path.name for path in (results / "data").iterdir()} == {"tiny_a", "tiny_b"}
    assert not (results / "runs/demo").exists()  # trained by `all` alone
    for name, classes in (("tiny_a", 12), ("tiny_b", 14)):
        run = results / f"runs/{name}/softmax/seed0"
        config = json.loads((run / "config.json").read_text())
        assert config["model"]["roi_head"]["bbox_head"]["num_classes"] == classes
        scores = json.loads((run / "evaluation/softmax.json").read_text())
        assert len(scores["per_class"]) == classes
    text = (results / "table.md").read_text()
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        *("## A", "## B", "## Both", "## Cost")
    ]
    assert text.count("↳ difference") == 5
    assert (results / "figures/both.png").stat().st_size > 10_000
    again = snakemake(tmp_path, *arguments, "-n", PYTHONPATH=str(tmp_path))
    jobs = planned(again.returncode, again.stdout, again.stderr)
    assert jobs == {"reproduce_table": 1, "total": 1}  # prints the table once more


@pytest.mark.slow
def test_the_same_chain_on_real_images(checkout, shared_data):
    source = shared_data / "minicoco_lt"
    dataset = {
        "source": "files",
        "train": {
            "annotations": str(source / "minicoco_lt_train.json"),
            "images": str(source),
        },
        "val": {"annotations": str(source / "minicoco_lt_val.json"), "images": str(source)},
        "image_scales": [[160, 160]],
        "normalize": {
            "mean": [123.675, 116.28, 103.53],
            "std": [58.395, 57.12, 57.375],
            "to_rgb": True,
        },
        "pad": 32,
        "repeat_threshold": 0.05,
        "rare_frequency": 0.05,
    }
    (checkout / "minicoco.yaml").write_text(yaml.safe_dump(dataset))
    pipeline = {
        "name": "minicoco",
        "dataset": "minicoco.yaml",
        "experiments": ["demo/gol"],
        # Of 300 detections an image each has a mask of the whole photo.
        "set": {"runner.max_epochs": 1, "model.test_cfg.rcnn.max_per_img": 30},
    }
    (checkout / "real.yaml").write_text(yaml.safe_dump(pipeline))
    result = snakemake(checkout, "reproduce_table", "--configfile", "real.yaml")
    assert result.returncode == 0, result.stderr[-3000:]
    run = checkout / "results/minicoco/runs/demo/gol/seed0"
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["roi_head"]["bbox_head"]["num_classes"] == 80
    scores = json.loads((run / "evaluation/gumbel.json").read_text())
    assert scores["images"] == 100 and len(scores["per_class"]) == 80
    # mask and box of one object agree, in pixels of the original image
    detections = json.loads((run / "detections/gumbel.json").read_text())
    sizes = {tuple(entry["segmentation"]["size"]) for entry in detections[:2000]}
    assert max(max(size) for size in sizes) > 400
