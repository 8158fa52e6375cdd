"""`gol <verb>`: each step of the pipeline as a command that a person can run by hand."""

import argparse
import os
import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Any

from gol.cli.options import build_parser
from gol.errors import JobFailed, PeerError, UserError

if TYPE_CHECKING:
    from gol.run_folder import RunSummary

#: What also needs the extra "pipeline".
_PIPELINE_VERBS = ("launch", "store", "track")


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; returns 0, 1 if a check found problems, 2 after one line about bad input."""
    args = build_parser(__doc__, _ACTIONS).parse_args(arguments)
    try:
        return args.do(args) or 0
    except PeerError:
        return 2
    except UserError as error:
        print(f"gol {args.verb}: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except JobFailed as error:
        print(f"gol {args.verb}: {error}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as error:
        extra = "all" if args.verb in _PIPELINE_VERBS else "detection"
        if _is_installed(extra):
            raise
        text = f"needs {error.name}: pip install 'gol[{extra}]' (README, \"Installing elsewhere\")"
        print(f"gol {args.verb}: error: {text}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"gol {args.verb}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `gol experiments | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _is_installed(extra: str) -> bool:
    """Whether the packages of an extra are all there."""
    try:
        for requirement in requires("gol") or ():
            if f"extra == '{extra}'" in requirement:
                version(re.split(r"[^\w.-]", requirement)[0])
    except PackageNotFoundError:
        return False
    return True


def _experiments(args: argparse.Namespace) -> None:
    from gol.config.experiments import experiment, experiments

    for name in experiments():
        entry = experiment(name)
        axes = " ".join(f"{axis}={value}" for axis, value in entry.axes)
        line = f"{name:<58} {axes}"
        if entry.published and not entry.compare:
            values = " ".join(f"{key} {value}" for key, value in entry.published.items())
            line += f"  published: {values}"
        print(line)


def _demo(args: argparse.Namespace) -> None:
    from gol.config.datasets import load_dataset
    from gol.data.demo.draw import draw_demo

    dataset = load_dataset(args.dataset)
    if dataset.source != "demo":
        raise UserError(f"dataset '{args.dataset}' is not drawn: its source is {dataset.source}")
    draw_demo(args.out, **dataset.draw.model_dump())


def _download(args: argparse.Namespace) -> None:
    from gol.config.datasets import dataset_downloads
    from gol.progress import format_bytes
    from gol.sources.raw import download, downloads, is_there

    names = args.names + (dataset_downloads(args.dataset) if args.dataset else [])
    if names:
        return download(names, args.coco)
    for name, entry in downloads().items():
        size = format_bytes(entry["bytes"]) if "bytes" in entry else "size unknown"
        state = "there" if is_there(entry) else "-"
        print(f"{name:<18} {state:<6} {size:<13} {entry['makes']}")
    return None


def _preprocess(args: argparse.Namespace) -> None:
    from gol.config.datasets import load_dataset
    from gol.data.layout import SPLITS
    from gol.data.preprocess import preprocess_dataset

    dataset = load_dataset(args.dataset)
    files = [file for split in SPLITS for file in dataset.files(split, args.out)]
    settings = (dataset.thresholds, dataset.decode, dataset.drop_bad)
    summary = preprocess_dataset(*files, args.out, *settings)
    print(summary["text"])


def _config(args: argparse.Namespace) -> None:
    from gol.config.overrides import read_setting
    from gol.config.resolve import load_experiment, python_config, save_config

    overrides: dict[str, Any] = {"seed": args.seed}
    if args.dataset:
        overrides["dataset"] = args.dataset
    if args.weights:
        if not args.weights.is_file():
            raise UserError(f"no file {args.weights}")
        # The place of what the backbone names, not an addition to it.
        overrides["gol.weights"] = {"_delete_": True, "file": str(args.weights.resolve())}
    for text in args.set:
        key, value = read_setting(text)
        overrides[key] = value
    config = load_experiment(args.experiment, overrides, args.data)
    if args.run is None:
        print(python_config(config))
        return
    save_config(config, args.run)
    print(f"{args.run}: {args.experiment}, seed {args.seed}")


def _weights(args: argparse.Namespace) -> None:
    from gol.config.backbones import backbone_weights, fetch_backbones
    from gol.sources.download import Source
    from gol.sources.weights import cache_path

    if args.backbones:
        for path in fetch_backbones(args.backbones):
            print(path)
        return
    for name, weights in backbone_weights().items():
        path = cache_path(Source.of(weights).name)
        print(f"{name:<12} {'there' if path.exists() else '-':<6} {weights['url']} -> {path}")


def _pretrained(args: argparse.Namespace) -> None:
    from gol.config.experiments import experiment
    from gol.engine.pretrained import fetch_pretrained, prepare_run, pretrained

    if args.run and args.name:
        prepare_run(args.name, args.run, args.file, args.data)
        print(f"{args.run}: ready for `gol detect`")
    elif args.name:
        print(fetch_pretrained(args.name, args.out))
    else:
        for name, entry in pretrained().items():
            published = experiment(entry["experiment"]).published
            values = "  ".join(f"{key} {value}" for key, value in published.items())
            print(f"{name:<14} {entry['experiment']}  {values}")


def _train(args: argparse.Namespace) -> None:
    from gol.config.backbones import fetch_for
    from gol.engine.train import Interrupted, train
    from gol.run_folder import RunFolder

    fetch_for(RunFolder(args.run))
    try:
        _print_once(_training_text(train(args.run, args.device)))
    except Interrupted as error:
        print(f"gol train: {error}", file=sys.stderr)
        sys.exit(75)  # EX_TEMPFAIL: the same command continues


def _launch(args: argparse.Namespace) -> None:
    from gol.cluster.launch import launch
    from gol.cluster.settings import Settings
    from gol.cluster.tasks import Detection, Training

    settings = Settings(**{name: getattr(args, name) for name in Settings.model_fields})
    device = settings.device or None
    if args.detect:
        launch(Detection(args.run, args.detect, args.scoring, device), settings)
        print(f"detections in {args.detect}")
    else:
        print(_training_text(launch(Training(args.run, device), settings)))


def _training_text(summary: "RunSummary") -> str:
    return (
        f"{summary.iterations} iterations in {summary.seconds:.0f} s, "
        f"{summary.images_per_second:.1f} img/s on {summary.device}"
    )


def _print_once(text: str) -> None:
    """Prints on rank 0 of the processes that work together."""
    from gol.engine.distributed import find_address

    if find_address().rank == 0:
        print(text)


def _detect(args: argparse.Namespace) -> None:
    from gol.engine.detect import detect

    count = detect(args.run, args.out, args.scoring, args.checkpoint, args.device)
    _print_once(f"{count} detections in {args.out}")


def _evaluate(args: argparse.Namespace) -> None:
    from gol.evaluation.lvis import evaluate_file, format_metrics

    print(format_metrics(evaluate_file(args.annotations, args.detections, args.out)))


def _plan(args: argparse.Namespace) -> None:
    from gol.cli.plan import download_bytes, plan
    from gol.cli.plan_table import format_plan
    from gol.config.pipeline import read_pipeline
    from gol.files import read_yaml

    content = read_yaml(args.pipeline)
    if not isinstance(content, dict):
        raise UserError(f"{args.pipeline} is no pipeline file")
    pipeline = read_pipeline(content)
    trainings = plan(pipeline, args.throughput, args.measured)
    print(format_plan(trainings, download_bytes(pipeline.datasets), args.gpus))


def _store(args: argparse.Namespace) -> None:
    from gol.results.tracking import create_tracking_store

    create_tracking_store(args.store)


def _track(args: argparse.Namespace) -> None:
    from gol.results.tracking import log_run

    print(log_run(args.run, args.store, args.name))


def _doctor(args: argparse.Namespace) -> int:
    from gol.cli.doctor import MISSING, diagnose

    bad = 0
    for status, name, text in diagnose(args.dataset, args.store):
        print(f"{status:<8} {name:<14} {text}", flush=True)
        bad += status == MISSING
    return int(bad > 0)


def _table(args: argparse.Namespace) -> None:
    from gol.config.pipeline import read_layout
    from gol.results.report import report

    print(report(args.runs, args.out, read_layout(args.layout) if args.layout else None))


_ACTIONS = {
    "experiments": _experiments,
    "demo": _demo,
    "download": _download,
    "preprocess": _preprocess,
    "config": _config,
    "weights": _weights,
    "pretrained": _pretrained,
    "train": _train,
    "launch": _launch,
    "detect": _detect,
    "evaluate": _evaluate,
    "plan": _plan,
    "store": _store,
    "track": _track,
    "table": _table,
    "doctor": _doctor,
}

if __name__ == "__main__":
    sys.exit(main())
