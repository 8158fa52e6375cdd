"""What `gol` takes: the verbs, their options and their help."""

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

Verb = Callable[..., None]


class _Parser(argparse.ArgumentParser):
    """A parser; options that cost an import are added when their verb is used."""

    later: Callable[[], list[tuple]] | None = None

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """Adds the options that were left, and parses."""
        for names, settings in self.later() if self.later else ():
            self.add_argument(*names, **settings)
        self.later = None
        return super().parse_known_args(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 on")
    return int(text)


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def _positive_whole(text: str) -> int:
    if not (text.isdecimal() and int(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _option(*names: str, **settings: Any) -> tuple:
    return names, settings


_RUN = _option("run", type=Path, help="run folder, prepared by `gol config`")
_DATASET = _option("--dataset", default="demo", help="name in configs/datasets, or a YAML file")
_DATA = _option("--data", type=Path, help="folder written by `gol preprocess`")
_DEVICE = _option("--device", help="cpu, cuda, cuda:1 … (default: the GPU if there is one)")
_SCORING = _option("--scoring", help="activation for the scores (default: the config's first)")
_OUT = _option("--out", type=Path, required=True, help="where to write")
_STORE = _option("--store", default="sqlite:///mlflow.db", help="MLflow store (default: mlflow.db)")


def build_parser(description: str, actions: Mapping[str, Callable]) -> argparse.ArgumentParser:
    """The command line; the parsed arguments name the action as ``do``.

    Args:
        description: what `gol` is.
        actions: verb to the function that does it.
    """
    parser = _Parser(prog="gol", description=description)
    verbs = parser.add_subparsers(dest="verb", metavar="verb", required=True, parser_class=_Parser)

    def verb(name: str, text: str, *options: tuple, later: Any = None) -> None:
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(do=actions[name])
        sub.later = later
        for names, settings in options:
            sub.add_argument(*names, **settings)

    _prepare_verbs(verb)
    _job_verbs(verb)
    _result_verbs(verb)
    return parser


def _prepare_verbs(verb: Verb) -> None:
    verb("experiments", "List the experiments and their axes.")
    verb(
        "demo",
        "Draw the images and annotations of the built-in demo.",
        _DATASET,
        _OUT,
    )
    verb(
        "download",
        "Fetch and unpack the files of a dataset, or list them.",
        _option("names", nargs="*", help="names in configs/downloads.yaml"),
        _option("--dataset", help="all that this dataset is made of"),
        _option("--coco", type=Path, help="folder with train2017 and val2017 to link to"),
    )
    verb(
        "preprocess",
        "Check a dataset's annotations and write them in one schema, with class statistics.",
        _DATASET,
        _OUT,
    )
    verb(
        "config",
        "Resolve an experiment into a run folder's config.json, or print it for mmdet's tools.",
        _option("experiment", help="name listed by `gol experiments`"),
        _option("--run", type=Path, help="run folder to prepare (default: print a Python config)"),
        _option("--dataset", help="dataset instead of the experiment's own"),
        _DATA,
        _option("--weights", type=Path, help="file of the backbone's weights, instead of the net"),
        _option("--seed", type=_natural, default=0, help="0, 1, 2 … (default 0)"),
        _option("--set", nargs="*", default=[], metavar="KEY=VALUE", help="e.g. optimizer.lr=0.01"),
    )
    verb(
        "weights",
        "Fetch the ImageNet weights of backbones into torch.hub's cache, or list them.",
        _option("backbones", nargs="*", help="names in configs/models"),
    )
    verb(
        "pretrained",
        "Fetch an official GOL checkpoint, make a run folder of it, or list them.",
        _option("name", nargs="?", help="a listed name"),
        _option("--out", type=Path, help="file or folder (default: torch.hub's cache)"),
        _option("--run", type=Path, help="run folder to make, for `gol detect`"),
        _option("--file", type=Path, help="the checkpoint, if it is at hand"),
        _DATA,
    )


def _job_verbs(verb: Verb) -> None:
    verb("train", "Train, or continue, a run in this process.", _RUN, _DEVICE)
    verb(
        "launch",
        "Train a run, or detect with it, as a submitit job and wait for it.",
        _RUN,
        _option("--detect", type=Path, metavar="OUT", help="detect instead, and write this file"),
        _SCORING,
        later=_settings,
    )
    verb(
        "detect",
        "Detect on the test images with a trained run.",
        _RUN,
        _OUT,
        _SCORING,
        _option("--checkpoint", type=Path, help="weights instead of the run's model.pth"),
        _DEVICE,
    )


def _settings() -> list[tuple]:
    """An option for each launch setting; none where the package lacks what launching needs."""
    try:
        from gol.cluster.settings import Settings
    except ModuleNotFoundError:
        return []
    return [
        _option(
            f"--{name.replace('_', '-')}",
            type=_natural if setting.annotation is int else str,
            default=setting.default,
            help=setting.description.replace("%", "%%"),
        )
        for name, setting in Settings.model_fields.items()
    ]


def _result_verbs(verb: Verb) -> None:
    verb(
        "evaluate",
        "Score detections against annotations by the LVIS protocol.",
        _option("annotations", type=Path, help="prepared annotation file"),
        _option("detections", type=Path, help="JSON written by `gol detect`"),
        _OUT,
    )
    verb(
        "plan",
        "Estimate what a pipeline takes before it is started: images, GPU-hours, disk, downloads.",
        _option("pipeline", type=Path, help="pipeline file, e.g. configs/lvis.yaml"),
        _option("--throughput", type=_positive, help="training images per second of one GPU"),
        _option(
            "--measured", type=Path, nargs="+", default=[], help="finished runs to take it from"
        ),
        _option("--gpus", type=_positive_whole, help="GPUs that work at once"),
    )
    verb("store", "Create the MLflow store.", _STORE)
    verb(
        "track",
        "Log a finished run to MLflow; again changes nothing.",
        _RUN,
        _STORE,
        _option("--name", required=True, help="MLflow experiment"),
    )
    verb(
        "table",
        "Tables and figures of several runs.",
        _option("runs", type=Path, nargs="+", help="run folders, in the order of the rows"),
        _option("--layout", help="pipeline file, or its keys tables and figures as JSON"),
        _OUT,
    )
    verb(
        "doctor",
        "Check data, packages, GPUs, disk, weights, Slurm and MLflow; exit code 1 for problems.",
        _option("--dataset", help="dataset whose files to look for"),
        _STORE,
    )
