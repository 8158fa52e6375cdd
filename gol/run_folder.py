"""A run's folder: the one place that knows the names in it, and how far the run is.

====================== =========================================== =================================
name                   holds                                       written by
====================== =========================================== =================================
``config.json``        the resolved config                         ``gol config``
``overrides.json``     what ``--set`` changed, if anything         ``gol config``
``job.json``           which job trains the run                    ``gol launch``
``logs/``              output of jobs and of the workflow's steps  ``gol launch``, the workflow
``metrics.jsonl``      losses and throughput, a line per iteration ``gol train``
``checkpoints/``       the newest two, and damaged ones, set aside ``gol train``
``model.pth``          the trained weights, in mmcv's layout       ``gol train``
``validation.jsonl``   scores of the validations, a line each      ``gol train``
``best.pth``           weights that scored best, as ``model.pth``  ``gol train``
``.validation/``       detections of a validation that goes on     ``gol train``
``train.json``         the :class:`RunSummary`, last of all        ``gol train``
``cost.json``          what each start of the training took        ``gol train``
``detections/S.json``  detections scored with activation S         ``gol detect``
``…/S.cost.json``      what each start of that detection took      ``gol detect``
``…/S.per_class.json`` the best of each class, not of each image   ``gol detect --per-class``
``evaluation/S.json``  their scores                                ``gol evaluate``
``…/S.PROTOCOL.json``  the same by another protocol                ``gol evaluate --protocol``
``kept/S.PART/``       logits scored with S, to be calibrated      ``gol detect``, ``gol calibrate``
``calibration/S.*``    its strength, and how that was fitted       ``gol calibrate``
``tracked.txt``        the id of the MLflow run                    the workflow
``.train.lock``        nothing; held by the process that trains    ``gol train``
``.NAME.sha256``       a JSON file's digest: ``gol.files.digests`` who writes that file
====================== =========================================== =================================
"""

import shutil
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from gol.errors import UserError
from gol.files import read_json, read_model, remove, write_json


def restart_option(rule: str, run: object = "") -> str:
    """How another configuration is told to start over, by hand and in the workflow.

    Args:
        rule: the workflow's.
        run: the run folder, where the command itself has to be named.
    """
    by_hand = f"`gol launch {run} --changed restart`" if run else "--changed restart"
    return f"{by_hand} (with snakemake: --set-resources {rule}:changed=restart)"


class ValidationSummary(BaseModel):
    """What the validations of a finished training found.

    Attributes:
        metric: what was compared, ``segm_AP`` or ``bbox_AP``.
        best_iteration: iterations that the best weights were trained for.
        best_score: their score in [0, 1].
        stopped_early: whether the training ended for want of a better score.
        seconds: time spent, over all starts.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    metric: str
    best_iteration: int
    best_score: float
    stopped_early: bool
    seconds: float


class RunSummary(BaseModel):
    """What a finished training was and took; times in seconds, moments as Unix time.

    Attributes:
        fingerprint: hash of the resolved config and the training annotations.
        iterations: iterations done.
        seconds: time spent training, over all starts.
        images_per_second: training throughput of all ranks together.
        parameters: numbers in the model's parameters.
        device: what rank 0 ran on.
        ranks: processes that trained together.
        started: when the training began.
        finished: when it was done.
        versions: package to version.
        raw_annotations: split to the SHA-256 of the file that ``gol preprocess`` made it of.
        source: who trained it, and the ``commit`` of the code, if it lies in a repository of git.
        precision: what precision ``auto`` was; None: the config says it.
        validation: what validation found; None: there was none.
    """

    model_config = ConfigDict(frozen=True, strict=True)

    fingerprint: str
    iterations: int
    seconds: float
    images_per_second: float
    parameters: int
    device: str
    ranks: int = 1  # 0.1.0 did not say
    started: float
    finished: float
    versions: dict[str, str] = {}
    raw_annotations: dict[str, str] = {}  # unknown before 0.4.0
    source: dict[str, str] = {}  # unknown before 0.5.0
    precision: str | None = None
    validation: ValidationSummary | None = None


class RunFolder:
    """The files of one run; none of them need exist.

    Args:
        path: the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config(self) -> Path:
        """The resolved config."""
        return self.path / "config.json"

    @property
    def overrides(self) -> Path:
        """What changed the experiment: dotted key to value."""
        return self.path / "overrides.json"

    @property
    def job(self) -> Path:
        """Which job trains the run."""
        return self.path / "job.json"

    @property
    def logs(self) -> Path:
        """Folder of the jobs' output."""
        return self.path / "logs"

    @property
    def metrics(self) -> Path:
        """One JSON object a line, with the numbers of an iteration."""
        return self.path / "metrics.jsonl"

    @property
    def validations(self) -> Path:
        """One JSON object a line, with the scores of a validation."""
        return self.path / "validation.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints, whose names sort by iteration."""
        return self.path / "checkpoints"

    @property
    def weights(self) -> Path:
        """The trained weights."""
        return self.path / "model.pth"

    @property
    def validating(self) -> Path:
        """Folder of what a validation writes meanwhile."""
        return self.path / ".validation"

    @property
    def best(self) -> Path:
        """The weights that scored best in validation."""
        return self.path / "best.pth"

    @property
    def chosen(self) -> Path:
        """The weights to detect with: the best where there are some, else the last."""
        return self.best if self.best.exists() else self.weights

    @property
    def summary(self) -> Path:
        """The run's :class:`RunSummary`."""
        return self.path / "train.json"

    @property
    def cost(self) -> Path:
        """What each start of the training took: ``gol.costs``."""
        return self.path / "cost.json"

    @property
    def training_lock(self) -> Path:
        """Held by the one process that trains."""
        return self.path / ".train.lock"

    @property
    def tracked(self) -> Path:
        """Holds the id of the run in MLflow."""
        return self.path / "tracked.txt"

    def log(self, step: str) -> Path:
        """What a step of the workflow says."""
        return self.logs / f"{step}.log"

    def detections(self, scoring: str, per_class: bool = False) -> Path:
        """The detections that were scored with an activation: the best of each image or class."""
        return self.path / "detections" / f"{scoring}{'.per_class' if per_class else ''}.json"

    @staticmethod
    def cost_of(detections: Path) -> Path:
        """What each start of a detection took, beside what it found."""
        return detections.with_suffix(".cost.json")

    def evaluation(self, scoring: str, protocol: str = "") -> Path:
        """The scores of the detections that were scored with an activation.

        Args:
            scoring: the activation.
            protocol: of ``gol.evaluation.protocols.PROTOCOLS``; empty: the official one.
        """
        return self.path / "evaluation" / f"{scoring}{protocol and f'.{protocol}'}.json"

    def kept(self, scoring: str, part: str) -> Path:
        """Folder of the logits of some images (``val`` or ``train_half``), to be calibrated."""
        return self.path / "kept" / f"{scoring}.{part}"

    def calibrated(self) -> list[str]:
        """The scorings ACTIVATION+CALIBRATION of which there are scores, in alphabetical order."""
        found = (path.stem for path in self.evaluation("*").parent.glob("*+*.json"))
        return sorted(name for name in found if "." not in name and not name.endswith("+none"))

    def calibration(self, scoring: str) -> Path:
        """A calibration's strength and how it was fitted; the figure of that lies beside it."""
        return self.path / "calibration" / f"{scoring}.json"

    def strength(self, scoring: str) -> float | None:
        """The strength of what ``gol calibrate`` scored; None where it scored nothing.

        Raises:
            UserError: its record is damaged.
        """
        path = self.calibration(scoring)
        found = read_json(path) if path.is_file() else None
        strength = found.get("strength") if isinstance(found, dict) else None
        return strength if isinstance(strength, int | float) else None

    def remove_protocols(self, scoring: str) -> None:
        """Removes the scores by other protocols, and the best of each class that they want."""
        for path in self.evaluation("*").parent.glob(f"{scoring}.*.json"):
            remove(path)
        remove(self.detections(scoring, per_class=True))

    def fit_figures(self, scoring: str) -> list[Path]:
        """The figures of how a strength was fitted."""
        return [self.calibration(scoring).with_suffix(suffix) for suffix in (".png", ".pdf")]

    def read_overrides(self) -> dict[str, Any]:
        """What changed the experiment; empty where nothing did, or before 0.5.0.

        Raises:
            UserError: the file is damaged.
        """
        found = read_json(self.overrides) if self.overrides.exists() else {}
        if not isinstance(found, dict):
            raise UserError(f"{self.overrides} must hold an object")
        return found

    def read_summary(self) -> RunSummary:
        """Reads the summary.

        Raises:
            UserError: the run is not finished, or the file is damaged.
        """
        if not self.summary.is_file():
            raise UserError(f"{self} is not a finished run: {self.summary.name} is missing")
        return read_model(self.summary, RunSummary)

    def write_summary(self, summary: RunSummary) -> None:
        """Writes the summary, which makes the run a finished one."""
        write_json(
            self.summary, summary.model_dump(exclude_unset=True), indent=1, writer="gol train"
        )

    def finished(self, fingerprint: str) -> RunSummary | None:
        """The summary, if this configuration's training is done; else None.

        Raises:
            UserError: the summary is damaged.
        """
        if not (self.summary.exists() and self.weights.exists()):
            return None
        summary = self.read_summary()
        return summary if summary.fingerprint == fingerprint else None

    def of_another(self, fingerprint: str) -> bool:
        """Whether the training that is done is another configuration's.

        Raises:
            UserError: the summary is damaged.
        """
        return self.summary.exists() and self.read_summary().fingerprint != fingerprint

    def refusal(self) -> UserError:
        """What to raise where a configuration meets the files of another one."""
        return UserError(
            f"{self} was trained with another configuration or other annotations: remove that "
            "folder to train anew, give the pipeline another name, or use "
            f"{restart_option('train', self)}"
        )

    def progress(self) -> str:
        """Name of the newest checkpoint, which grows with every one; empty before the first."""
        return max((path.name for path in self.checkpoints.glob("*.pth")), default="")

    def traces(self) -> list[Path]:
        """What a training has left here, finished or not."""
        files = (self.summary, self.checkpoints, self.metrics)
        return [path for path in files if path.exists()]

    def clear(self) -> None:
        """Removes what a training left, so that the next begins at the beginning."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        shutil.rmtree(self.validating, ignore_errors=True)
        for name in ("kept", "calibration"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        # What nothing else would notice: what was made by hand, or is read where it lies.
        detections, scores = self.detections("").parent, self.evaluation("").parent
        for pattern in ("*+*.json", "*.per_class.json", "*.cost.json"):
            for path in [*detections.glob(pattern)]:
                remove(path)
        for path in [*scores.glob("*+*.json"), *scores.glob("*.*.json")]:
            remove(path)
        for path in (
            *(self.summary, self.weights, self.metrics, self.job),
            *(self.best, self.validations, self.cost),
        ):
            remove(path)
