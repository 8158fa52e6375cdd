"""One trained and scored run, read back from its folder and checked.

Tracking, tables and figures all start here, so that they agree on what a run folder holds: the
resolved config, whose key ``gol`` says who the run is, the summary and the metrics of the training,
and the scores of each scoring, which is the activation used at test time.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from gol.config.own import Identity
from gol.costs import Cost, detection_cost, training_cost
from gol.errors import UserError
from gol.files import read_model
from gol.files.digests import log_lines
from gol.run_folder import RunFolder, RunSummary


def _named(metrics: dict[str, float | None]) -> dict[str, float | None]:
    if "AP" not in metrics:
        raise ValueError("lacks 'AP'")
    return metrics


Metrics = Annotated[dict[str, float | None], AfterValidator(_named)]
"""Metric to its value in [0, 1], or None where no class could be measured."""


class _Read(BaseModel):
    """What this package wrote itself: types as they are, and keys that nobody needs here."""

    model_config = ConfigDict(frozen=True, strict=True)


_Content = TypeVar("_Content", bound=_Read)


class ClassScores(_Read):
    """One class: its training images, and its AP in [0, 1] or None."""

    id: int
    name: str
    frequency: str
    image_count: int | None
    segm_AP: float | None
    bbox_AP: float | None


class Evaluation(_Read):
    """The scores of a run's detections.

    Attributes:
        protocol: how they were measured.
        engine: what measured them.
        images: number of images.
        segm: metrics of the masks.
        bbox: metrics of the boxes.
        per_class: all classes.
    """

    protocol: dict[str, Any]
    engine: str
    images: int
    segm: Metrics
    bbox: Metrics
    per_class: list[ClassScores]


class ProtocolScores(_Read):
    """The scores of a run's detections by a protocol beside the official one.

    Attributes:
        protocol: its name, and how they were measured.
        scores: row to column to value.
    """

    protocol: dict[str, Any]
    scores: dict[str, dict[str, float | int | None]]


class _Config(_Read):
    gol: Identity


class _Images(_Read):
    ann_file: str
    img_prefix: str = ""


class _Data(_Read):
    test: _Images


class _DataConfig(_Read):
    data: _Data


@dataclass(frozen=True)
class Run:
    """A finished run: its identity, its training and its scores.

    Attributes:
        folder: where it was read from.
        identity: who it is.
        train: its training.
        evaluations: scoring to evaluation result; the first one is the primary, and what was
            calibrated later comes last.
    """

    folder: RunFolder
    identity: Identity
    train: RunSummary
    evaluations: dict[str, Evaluation]

    @property
    def primary(self) -> str:
        """The scoring that stands for the run."""
        return self.identity.scorings[0]

    @cached_property
    def training_cost(self) -> Cost:
        """What its training took."""
        return training_cost(self.folder)

    @cached_property
    def detection_costs(self) -> dict[str, Cost]:
        """What its detections took, by scoring."""
        return {scoring: detection_cost(self.folder, scoring) for scoring in self.evaluations}

    @property
    def costs(self) -> list[Cost]:
        """What its training and its detections took."""
        return [self.training_cost, *self.detection_costs.values()]

    @property
    def statement(self) -> str | None:
        """What to bear in mind about the images that were scored, or None."""
        own = self.identity.statement
        if self.train.validation is None:
            return own
        text = "the images by which validation chose the weights, so AP is a little optimistic"
        return f"{own.rstrip('.')}; {text}" if own else text


def read_protocol(run: RunFolder, scoring: str, protocol: str) -> ProtocolScores:
    """The scores by one of ``gol.config.protocols.PROTOCOLS``.

    Raises:
        UserError: they are missing or damaged.
    """
    path = run.evaluation(scoring, protocol)
    if not path.is_file():
        raise UserError(
            f"{path} is missing: `gol evaluate {run} --protocol {protocol} --scoring {scoring}` "
            "writes it"
        )
    return read_model(path, ProtocolScores)


def find_runs(paths: Iterable[str | Path]) -> list[Path]:
    """Run folders as they are, and instead of a folder that holds runs those, by name.

    Raises:
        UserError: a folder holds none.
    """
    found = []
    for path in map(Path, paths):
        config = RunFolder(path).config
        if config.is_file() or not path.is_dir():  # read_run says what is wrong with it
            found.append(path)
            continue
        inside = sorted(each.parent for each in path.rglob(config.name))
        if not inside:
            raise UserError(f"{path} is no run folder and holds none")
        found += inside
    return found


def read_run(folder: str | Path) -> Run:
    """Reads a run folder.

    Raises:
        UserError: a file is missing, truncated or lacks a key; the message names both.
    """
    folder = RunFolder(folder)
    if not folder.path.is_dir():
        raise UserError(f"no run folder {folder}")
    identity = read_identity(folder)
    return Run(
        folder=folder,
        identity=identity,
        train=folder.read_summary(),
        evaluations={
            scoring: _read(folder, folder.evaluation(scoring), Evaluation)
            for scoring in dict.fromkeys([*identity.scorings, *folder.calibrated()])
        },
    )


def read_identity(folder: RunFolder) -> Identity:
    """Who a run is, finished or not.

    Raises:
        UserError: its config is missing, truncated or lacks a key.
    """
    return _read(folder, folder.config, _Config).gol


def scored_on(run: Run) -> tuple[Path, Path]:
    """The annotation store and the image folder that a run's detections are of.

    Raises:
        UserError: the run's config is damaged or does not name them.
    """
    images = _read(run.folder, run.folder.config, _DataConfig).data.test
    return Path(images.ann_file), Path(images.img_prefix)


def read_runs(folders: Iterable[str | Path]) -> list[Run]:
    """Reads several run folders, in the order given.

    Raises:
        UserError: there is none, one is incomplete, or two hold the same experiment and seed.
    """
    seen: dict[tuple[str, int], RunFolder] = {}
    runs = []
    for run in map(read_run, folders):
        who = run.identity
        other = seen.setdefault((who.experiment, who.seed), run.folder)
        if other is not run.folder:
            raise UserError(
                f"{run.folder} and {other} both hold experiment {who.experiment}, seed {who.seed}"
            )
        runs.append(run)
    if not runs:
        raise UserError("no run folder given")
    return runs


def read_curve(folder: str | Path) -> list[dict[str, float]]:
    """Reads a run's metrics: one dict of numbers for each logged iteration, in order.

    A last line that was cut short is what a killed process leaves behind and is dropped.
    An iteration that was logged twice, as after a resume, counts once, with its last values.
    Where the end of a finished run's metrics is missing, it says so.

    Raises:
        UserError: the file is missing, or a line is damaged or not a JSON object with
            ``iteration`` and ``time``.
    """
    run = RunFolder(folder)
    path, points = run.metrics, {}
    for number, (_, point) in enumerate(log_lines(path), start=1):
        try:
            if point is None:
                raise ValueError
            points[int(point["iteration"])] = {
                key: float(value)
                for key, value in {**point, "time": float(point["time"])}.items()
                if isinstance(value, Real)
            }
        except (ValueError, TypeError, KeyError, OverflowError) as error:
            raise UserError(
                f"{path}, line {number} is damaged or not a JSON object with numbers 'iteration' "
                "and 'time': remove it to go on without it"
            ) from error
    done = run.read_summary().iterations if run.summary.exists() else 0
    if max(points, default=0) < done:
        print(f"{path} ends before iteration {done}: its end is lost", file=sys.stderr)
    return [points[iteration] for iteration in sorted(points)]


def read_validation(run: RunFolder) -> list[dict[str, float]]:
    """Mask AP (without masks, box AP) of the validations during training, by iteration.

    Returns:
        ``iteration`` and ``AP`` in [0, 1] of each; empty where the run was not validated.

    Raises:
        UserError: a line is damaged.
    """
    points = {}
    lines = log_lines(run.validations) if run.validations.exists() else ()
    for number, (_, point) in enumerate(lines, start=1):
        try:
            score = point["segm_AP"] if "segm_AP" in point else point["bbox_AP"]
            if score is not None:
                points[int(point["iteration"])] = float(score)
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"{run.validations}, line {number} is damaged") from error
    return [{"iteration": done, "AP": points[done]} for done in sorted(points)]


def _read(folder: RunFolder, path: Path, model: type[_Content]) -> _Content:
    if not path.is_file():
        raise UserError(f"{folder} is not a finished run: {path.name} is missing")
    return read_model(path, model)
