"""Verbs that make what a run needs: data, weights, the resolved config."""

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gol.cli.verbs import JSON, OUT, Result, dataset_names, experiment_names, option, verb, whole
from gol.errors import UserError, without_secrets

_DATASET = option(
    "--dataset",
    default="demo",
    complete=dataset_names,
    help="name in configs/datasets, or a YAML file",
)
_DATA = option("--data", type=Path, help="folder written by `gol preprocess`")


@verb(_DATASET, OUT)
def demo(dataset: str, out: Path) -> None:
    """Draw the images and annotations of the built-in demo."""
    from gol.config.datasets import load_dataset
    from gol.data.demo.draw import draw_demo

    definition = load_dataset(dataset)
    if definition.source != "demo":
        raise UserError(f"dataset '{dataset}' is not drawn: its source is {definition.source}")
    draw_demo(out, **definition.draw.model_dump())


def _download_names(**_: Any) -> Iterable[str]:
    from gol.sources.raw import downloads

    return downloads()


@verb(
    option("names", nargs="*", complete=_download_names, help="names in configs/downloads.yaml"),
    option("--dataset", complete=dataset_names, help="all files that this dataset is made of"),
    option("--coco", type=Path, help="folder with train2017 and val2017 to link to"),
    JSON,
)
def download(names: list[str], dataset: str | None, coco: Path | None) -> Result:
    """Fetch and unpack the files of a dataset, or list them."""
    from gol.config.datasets import dataset_downloads
    from gol.sources import raw

    wanted = names + (dataset_downloads(dataset) if dataset else [])
    if wanted:
        raw.download(wanted, coco)
    files = [
        {
            "name": name,
            "there": raw.is_there(entry),
            "bytes": entry.get("bytes"),
            "makes": entry["makes"],
        }
        for name, entry in raw.downloads().items()
        if not wanted or name in wanted
    ]
    return Result(files, "" if wanted else "\n".join(map(_download_line, files)))


def _download_line(file: dict[str, Any]) -> str:
    from gol.progress import format_bytes

    size = format_bytes(file["bytes"]) if file["bytes"] else "size unknown"
    return f"{file['name']:<18} {_state(file['there'])} {size:<13} {file['makes']}"


def _state(there: bool) -> str:
    return "there " if there else "-     "


@verb(_DATASET, OUT, JSON)
def preprocess(dataset: str, out: Path) -> Result:
    """Check a dataset's annotations and write them in one schema, with class statistics."""
    from gol.config.datasets import export_files, load_dataset
    from gol.data.prepared import SPLITS
    from gol.data.preprocess import preprocess_dataset

    definition = load_dataset(dataset)
    files = [file for split in SPLITS for file in definition.files(split, out)]
    if export_files(dataset) and not files[0].exists():
        words = ("gol", "import", "--dataset", dataset, "--out", str(files[0].parent))
        raise UserError(f"{files[0]} is missing: `{shlex.join(words)}` writes it")
    settings = (definition.thresholds, definition.decode, definition.drop_bad, definition.derived)
    summary = preprocess_dataset(*files, out, *settings)
    return Result(summary, summary["text"])


def _init_names(**keywords: Any) -> Iterable[str]:
    from argcomplete.completers import FilesCompleter

    from gol.config.axes import axis_values

    return [*axis_values("init"), *FilesCompleter()(**keywords)]


@verb(
    option("experiment", complete=experiment_names, help="name listed by `gol experiments`"),
    option("--run", type=Path, help="run folder to prepare (default: print a Python config)"),
    option("--dataset", complete=dataset_names, help="dataset instead of the experiment's own"),
    _DATA,
    option("--weights", type=Path, help="file of the backbone's weights, instead of a download"),
    option(
        "--init",
        complete=_init_names,
        help="whole detector to start from: a file, an address, a name listed by `gol weights`, or"
        " none",
    ),
    option("--seed", type=whole(0), default=0, help="0, 1, 2 … (default 0)"),
    option(
        "--set",
        dest="overrides",
        nargs="*",
        action="extend",
        default=[],
        metavar="KEY=VALUE",
        help="e.g. optimizer.lr=0.01",
    ),
    JSON,
)
def config(
    experiment: str,
    run: Path | None,
    dataset: str | None,
    data: Path | None,
    weights: Path | None,
    init: str | None,
    seed: int,
    overrides: list[str],
) -> Result:
    """Resolve an experiment into a run folder's config.json, or print it for mmdet's tools."""
    from gol.config.overrides import read_setting
    from gol.config.resolve import load_experiment, pin_init, python_config, save_config

    values: dict[str, Any] = {"seed": seed}
    values |= {axis: name for axis, name in (("dataset", dataset), ("init", init)) if name}
    if weights:
        if not weights.is_file():
            raise UserError(f"no file {weights}")
        # In place of what the backbone names, not in addition to it.
        values["gol.weights"] = {"_delete_": True, "file": str(weights.resolve())}
    changes = dict(map(read_setting, overrides))
    values |= changes
    resolved = load_experiment(experiment, values, data)
    own = resolved.gol.weights or {}
    if own.get("file") and any(key.startswith("gol.weights") for key in values):
        from gol.models import check_weights

        check_weights(resolved)
    if run is None:
        return Result(resolved._cfg_dict.to_dict(), python_config(resolved))
    text = f"{run}: {experiment}, seed {seed}"
    if resolved.gol.get("init"):
        from gol.models import check_init

        pin_init(resolved)
        text = f"{text}, {check_init(resolved)}"
    save_config(resolved, run, changes)
    said = [text, *_derived_constants(resolved)]
    return Result(resolved._cfg_dict.to_dict(), "\n".join(said))


def _derived_constants(config: Any) -> list[str]:
    """What a resolved config takes from the class counts, in words."""
    from gol.config.axes import axis_values
    from gol.config.datasets import AUTO, load_dataset
    from gol.config.detector import settled
    from gol.config.resolve import training_annotations
    from gol.data.constants import iterations
    from gol.data.prepared import Prepared

    name = config.gol.axes.dataset
    keys = load_dataset(name).derived
    schedule = axis_values("schedule")[config.gol.axes.schedule]
    prepared = Prepared(Path(training_annotations(config)).parent)
    _, constants = settled(load_dataset(name), name, prepared)
    length = iterations(constants, schedule["base_batch"])
    if schedule.get("max_iters") == AUTO and config.runner.get("max_iters") == length:
        keys.append("seen")
    return [constants.text(keys, length)] if constants and keys else []


def _weights_names(**_: Any) -> Iterable[str]:
    from gol.config.backbones import published_weights

    return published_weights()


@verb(
    option("names", nargs="*", complete=_weights_names, help="listed names"),
    JSON,
)
def weights(names: list[str]) -> Result:
    """Fetch the weights of backbones and detectors into torch.hub's cache, or list them."""
    from gol.config.backbones import fetch_published, published_weights
    from gol.sources.weights import weights_path

    fetched = fetch_published(names)
    files = []
    for name, source in published_weights().items():
        path = weights_path(source)
        if not names or name in names:
            kind = "page" if "page" in source else "url"
            where = {kind: without_secrets(source[kind])}
            files.append({"name": name, "there": path.is_file(), **where, "path": str(path)})
    if names:
        return Result(files, "\n".join(map(str, fetched)))
    lines = (
        f"{f['name']:<18} {_state(f['there'])} {f.get('url') or f['page']} -> {f['path']}"
        for f in files
    )
    return Result(files, "\n".join(lines))


def _checkpoint_names(**_: Any) -> Iterable[str]:
    from gol.engine.pretrained import pretrained

    return pretrained()


@verb(
    option("name", nargs="?", complete=_checkpoint_names, help="a listed name"),
    option("--out", type=Path, help="file or folder (default: torch.hub's cache)"),
    option("--run", type=Path, help="run folder to make, for `gol detect`"),
    option("--file", type=Path, help="the checkpoint, if you have it already"),
    _DATA,
    JSON,
)
def pretrained(
    name: str | None, out: Path | None, run: Path | None, file: Path | None, data: Path | None
) -> Result:
    """Fetch an official GOL checkpoint, make a run folder of it, or list them."""
    from gol.config.experiments import experiment
    from gol.engine import pretrained as checkpoints

    if name and run:
        checkpoints.prepare_run(name, run, file, data)
        return Result({"name": name, "run": str(run)}, f"{run}: ready for `gol detect`")
    if name:
        path = str(checkpoints.fetch_pretrained(name, out))
        return Result({"name": name, "file": path}, path)
    listed = [
        {
            "name": name,
            "experiment": entry["experiment"],
            "url": without_secrets(entry["url"]),
            "published": experiment(entry["experiment"]).published,
        }
        for name, entry in checkpoints.pretrained().items()
    ]
    return Result(listed, "\n".join(map(_checkpoint_line, listed)))


def _checkpoint_line(entry: dict[str, Any]) -> str:
    values = "  ".join(f"{key} {value}" for key, value in entry["published"].items())
    return f"{entry['name']:<14} {entry['experiment']}  {values}"
