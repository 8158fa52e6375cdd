"""Trainings of the demo on the device: the table with error bars, autocast, two processes."""

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from gol.files import read_json
from gol.results.rows import mean_std

EXPERIMENTS = ("sigmoid", "softmax", "gumbel", "gumbel_exact", "gol")


def demo(args: argparse.Namespace) -> dict[str, Any]:
    """Every experiment of the demo at every seed; the table is the project's own."""
    names = EXPERIMENTS[2:3] if args.quick else EXPERIMENTS
    runs = [
        (f"demo/{name}", args.out / f"runs/demo/{name}/seed{seed}", seed, [])
        for name in names
        for seed in range(args.seeds)
    ]
    train_all(args, runs)
    gol("table", *[str(run) for _, run, _, _ in runs], "--out", str(args.out / "table"))
    return {"lines": [(args.out / "table/table.md").read_text().strip()]}


def amp(args: argparse.Namespace) -> dict[str, Any]:
    """AP of autocast lies within the spread of float32 over the same seeds."""
    values = {}
    for precision in ("float32", "bfloat16", "float16", "bfloat16_channels_last"):
        # float32 is the section "demo" again, whose runs are found done.
        folder = "demo/gumbel" if precision == "float32" else f"amp/{precision}"
        setting = [] if precision == "float32" else [f"precision={precision}"]
        runs = [
            ("demo/gumbel", args.out / f"runs/{folder}/seed{seed}", seed, setting)
            for seed in range(args.seeds)
        ]
        train_all(args, runs)
        scores = [read_json(run / "evaluation/gumbel.json") for _, run, _, _ in runs]
        values[precision] = [100 * score["segm"]["AP"] for score in scores]
    mean, spread = mean_std(values["float32"])
    lines, failed = [], []
    for precision, aps in values.items():
        found, deviation = mean_std(aps)
        line = f"{precision}: AP {found:.2f} ± {deviation or 0:.2f} over {len(aps)} seeds"
        lines.append(f"- {line}")
        if spread is not None and abs(found - mean) > 2 * (spread + (deviation or 0)):
            failed.append(f"{line}, float32 {mean:.2f} ± {spread:.2f}")
    return {"lines": ["\n".join(lines)], "failed": failed, "values": values}


def ranks(args: argparse.Namespace) -> dict[str, Any]:
    """50 iterations with one and with two processes on the same global batch."""
    if args.device != "cpu" and torch.cuda.device_count() < 2:
        return {"lines": ["one GPU: not run"]}
    data = prepared(args)
    setting = ["data.samples_per_gpu=2", "runner.max_epochs=1"]
    losses = []
    for count in (1, 2):
        run = args.out / f"runs/ranks/{count}"
        base = ["demo/gumbel", "--run", str(run), "--dataset", definition(args)]
        gol("config", *base, "--data", str(data), "--set", *setting)
        command = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={count}"]
        call([*command, "-m", "gol", "train", str(run), "--device", args.device])
        points = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        losses.append([point["loss"] for point in points if point["iteration"] <= 50])
    apart = [abs(a - b) for a, b in zip(*losses, strict=True)]
    line = f"the first logged loss differs by {apart[0]:.1e}, the last of 50 by {apart[-1]:.1e}"
    # Sums on a GPU have no fixed order, and rounding grows from iteration to iteration.
    return {"lines": [line], "failed": [line] if apart[0] > 1e-2 else []}


def prepared(args: argparse.Namespace) -> Path:
    """The demo set, drawn once; small when quick."""
    data = args.out / "data"
    if not (data / "summary.json").exists():
        dataset = definition(args)
        gol("demo", "--dataset", dataset, "--out", str(data / "raw"))
        gol("preprocess", "--dataset", dataset, "--out", str(data))
    return data


def definition(args: argparse.Namespace) -> str:
    """Name or file of the dataset."""
    if not args.quick:
        return "demo"
    import yaml

    from gol.config.axes import axis_values

    content = axis_values("dataset")["demo"]
    content["draw"] |= {"train_images": 40, "val_images": 24, "classes": 12}
    content["num_classes"] = 12
    path = args.out / "quick.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(content))
    return str(path)


def train_all(args: argparse.Namespace, runs: list[tuple[str, Path, int, list[str]]]) -> None:
    """Trains, detects and scores each run that is not done, several at once."""
    data, dataset = prepared(args), definition(args)

    def one(job: tuple[str, Path, int, list[str]]) -> None:
        experiment, run, seed, setting = job
        place, setting = ["--device", args.device], ["gol.threads=2", *setting]
        if args.quick:
            setting.append("runner.max_epochs=1")
        base = [experiment, "--run", str(run), "--seed", str(seed), "--dataset", dataset]
        gol("config", *base, "--data", str(data), "--set", *setting)
        gol("train", str(run), *place)
        for scoring in read_json(run / "config.json")["gol"]["scorings"]:
            found, scores = run / f"detections/{scoring}.json", run / f"evaluation/{scoring}.json"
            if not scores.exists():
                gol("detect", str(run), "--scoring", scoring, "--out", str(found), *place)
                gol("evaluate", str(data / "val.json"), str(found), "--out", str(scores))

    with ThreadPoolExecutor(args.jobs) as pool:
        list(pool.map(one, runs))


def gol(*arguments: str) -> None:
    """One verb of the command line, in a process of its own."""
    call(["-m", "gol", *arguments])


def call(arguments: list[str]) -> None:
    """Runs Python with this checkout in its path; what it says is shown if it fails."""
    root = Path(__file__).resolve().parents[2]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(arguments)}: {(done.stderr or done.stdout)[-2000:]}")
