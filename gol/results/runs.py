"""One trained and scored run, read back from its folder and checked.

Tracking, tables and figures all start here, so that they agree on what a run folder holds:
``config.json`` (the resolved config, whose key ``gol`` says who the run is), ``metrics.jsonl`` and
``train.json`` (training) and ``evaluation/<scoring>.json`` (scores; the scoring is the activation
used at test time).
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from gol.errors import UserError
from gol.files import read_json

_IDENTITY_KEYS = {"experiment": str, "label": str, "axes": dict, "seed": int}
_OPTIONAL_KEYS = ("published", "compare", "published_note", "statement")
_TRAIN_KEYS = {
    "fingerprint": str,
    "iterations": Real,
    "seconds": Real,
    "images_per_second": Real,
    "parameters": Real,
    "started": Real,
    "finished": Real,
}
_KIND_NAMES = {
    str: "a text",
    dict: "an object",
    list: "a list",
    int: "a whole number",
    Real: "a number",
}
_CLASS_KEYS = ("id", "name", "frequency", "image_count", "segm_AP", "bbox_AP")
_EVALUATION_KEYS = {
    "protocol": dict,
    "engine": str,
    "images": int,
    "segm": dict,
    "bbox": dict,
    "per_class": list,
}


@dataclass(frozen=True)
class Run:
    """A finished run: its identity, its training and its scores.

    Attributes:
        folder: where it was read from.
        experiment: name of the experiment, e.g. ``activations/gumbel/gumbel_r50_4x4_1x``.
        label: what tables and legends call it.
        axes: axis name to axis value (detector, backbone, classifier, …).
        seed: seed of this training.
        fingerprint: hash of the resolved config.
        published: published metric values in percent points, or None.
        compare: the experiment that these are for, if it is another one, or None.
        published_note: what to know about these, or None.
        statement: what to bear in mind about the dataset, e.g. that it is not LVIS, or None.
        train: content of ``train.json``; times in seconds, moments as Unix time.
        evaluations: scoring to evaluation result; the first one is the primary. AP values lie
            in [0, 1] or are None where no class could be measured.
    """

    folder: Path
    experiment: str
    label: str
    axes: dict[str, Any]
    seed: int
    fingerprint: str
    published: dict[str, float] | None
    compare: str | None
    published_note: str | None
    statement: str | None
    train: dict[str, Any]
    evaluations: dict[str, dict[str, Any]]

    @property
    def primary(self) -> str:
        """The scoring that stands for the run."""
        return next(iter(self.evaluations))


def read_run(folder: str | Path) -> Run:
    """Reads a run folder.

    Raises:
        UserError: a file is missing, truncated or lacks a key; the message names both.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"no run folder {folder}")
    path = folder / "config.json"
    identity = _read(path, {"gol": dict})["gol"]
    _check(identity, _IDENTITY_KEYS, f"{path}, 'gol'")
    train = _read(folder / "train.json", _TRAIN_KEYS)
    return Run(
        folder=folder,
        **{key: identity[key] for key in _IDENTITY_KEYS},
        fingerprint=train["fingerprint"],
        **{key: identity.get(key) for key in _OPTIONAL_KEYS},
        train=train,
        evaluations={
            scoring: _read_evaluation(folder / "evaluation" / f"{scoring}.json")
            for scoring in _scorings(identity, path)
        },
    )


def read_runs(folders: Iterable[str | Path]) -> list[Run]:
    """Reads several run folders, in the order given.

    Raises:
        UserError: there is none, one is incomplete, or two hold the same experiment and seed.
    """
    seen: dict[tuple[str, int], Path] = {}
    runs = []
    for run in map(read_run, folders):
        other = seen.setdefault((run.experiment, run.seed), run.folder)
        if other is not run.folder:
            raise UserError(
                f"{run.folder} and {other} both hold experiment {run.experiment}, seed {run.seed}"
            )
        runs.append(run)
    if not runs:
        raise UserError("no run folder given")
    return runs


def read_curve(folder: str | Path) -> list[dict[str, float]]:
    """Reads ``metrics.jsonl``: one dict of numbers for each logged iteration, in order.

    A last line without its line feed is what a killed process leaves behind and is dropped.
    An iteration that was logged twice, as after a resume, counts once, with its last values.

    Raises:
        UserError: the file is missing or a line is no JSON object with ``iteration`` and ``time``.
    """
    path = Path(folder) / "metrics.jsonl"
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    points = {}
    for number, line in enumerate(text.split("\n")[:-1], start=1):
        try:
            point = json.loads(line)
            points[int(point["iteration"])] = {
                key: float(value)
                for key, value in {**point, "time": float(point["time"])}.items()
                if isinstance(value, Real)
            }
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(
                f"{path}, line {number}: expected a JSON object with numbers 'iteration' and 'time'"
            ) from error
    return [points[iteration] for iteration in sorted(points)]


def _read(path: Path, keys: dict[str, type]) -> dict[str, Any]:
    if not path.is_file():
        raise UserError(f"{path.parent} is no finished run: {path.name} is missing")
    content = read_json(path)
    if not isinstance(content, dict):
        raise UserError(f"{path} must hold a JSON object")
    _check(content, keys, str(path))
    return content


def _check(content: dict[str, Any], keys: dict[str, type], where: str) -> None:
    for key, kind in keys.items():
        if key not in content:
            raise UserError(f"{where}: key '{key}' is missing")
        if not isinstance(content[key], kind):
            raise UserError(f"{where}: key '{key}' must be {_KIND_NAMES[kind]}")


def _read_evaluation(path: Path) -> dict[str, Any]:
    result = _read(path, _EVALUATION_KEYS)
    for kind in ("segm", "bbox"):
        _check(result[kind], {"AP": object}, f"{path}, '{kind}'")
    for entry in result["per_class"]:
        missing = [key for key in _CLASS_KEYS if key not in entry]
        if missing:
            raise UserError(f"{path}: an entry of 'per_class' lacks '{missing[0]}'")
    return result


def _scorings(identity: dict[str, Any], path: Path) -> list[str]:
    scorings = identity.get("scorings")
    if (
        not isinstance(scorings, list)
        or not scorings
        or not all(isinstance(scoring, str) and scoring.isidentifier() for scoring in scorings)
    ):
        raise UserError(f"{path}, 'gol': key 'scorings' must list at least one activation")
    return scorings
