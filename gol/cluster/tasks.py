"""What a job does, and the files by which a launcher follows it: a training or a detection."""

import hashlib
import json
import re
from pathlib import Path
from typing import Any, Protocol

from gol.cluster.joblog import say
from gol.cluster.jobs import JobRecord
from gol.config.backbones import fetch_for
from gol.config.own import own_part
from gol.config.resolve import fingerprint, read_config
from gol.errors import UserError
from gol.files import remove
from gol.run_folder import RunFolder, RunSummary


class Task(Protocol):
    """Something to be done once for a configuration, by one or several processes of a job.

    Attributes:
        run: the run that it belongs to, whose logs the job writes.
        title: what it is, for people.
        rule: the workflow's rule that does it.
        device: on which each process does it; None: the GPU if there is one.
        record: the file that says which job does it.
    """

    run: RunFolder
    title: str
    rule: str
    device: str | None
    record: Path

    def do(self) -> None:
        """Does it; called in every process of the job."""

    def splits(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        """The parts of a resolved config's ``data`` whose images it reads."""

    def fingerprint(self) -> str:
        """Hash of all that the result depends on.

        Raises:
            UserError: the run has no config, or what it depends on cannot be read.
        """

    def result(self, fingerprint: str) -> Any:
        """What is there once this configuration's task is done, None before."""

    def progress(self) -> str:
        """Grows with all that another start need not do again; empty for nothing."""

    def prepare(self, fingerprint: str, before: str | None, restart: bool) -> None:
        """Makes ready for the start of a job, on the machine that submits it.

        Args:
            fingerprint: of the configuration.
            before: of the configuration that the last job was submitted for; None for no job.
            restart: whether what another configuration has left may be removed.

        Raises:
            UserError: it may not, or an input cannot be fetched.
        """


def job_name(task: Task) -> str:
    """The name of a task's jobs, the same whenever it is launched."""
    readable = re.sub(r"[^\w.-]", "_", f"gol.{'.'.join(task.run.path.parts[-2:])}")
    return f"{readable[:60]}.{_place(task.record.resolve())}"


def is_name_of(task: Task, name: str) -> bool:
    """Whether a job's name is this task's, not that of a folder of which its folder is a copy."""
    # Before 0.4.0 a link was not followed.
    places = [_place(path) for path in (task.record.resolve(), task.record.absolute())]
    return name.rpartition(".")[2] in places


def _place(record: Path) -> str:
    return hashlib.sha256(str(record).encode()).hexdigest()[:8]


class Training:
    """The training of a run.

    Args:
        run: folder prepared by ``gol config``.
        device: passed on.
    """

    rule = "train"

    def __init__(self, run: str | Path, device: str | None = None) -> None:
        self.run, self.device = RunFolder(run), device
        self.title, self.record = f"the training of {run}", self.run.job

    def do(self) -> None:
        """Trains."""
        from gol.engine.train import train

        fetch_for(self.run)  # where this machine does not share the other's cache
        train(self.run.path, self.device)

    def splits(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        """The training split, and the test split where it validates."""
        data = config["data"]
        train = data["train"].get("dataset", data["train"])
        return [train, data["test"]] if config["gol"].get("validate_every") else [train]

    def fingerprint(self) -> str:
        """Fingerprint of the config."""
        return fingerprint(read_config(self.run.path))

    def result(self, fingerprint: str) -> RunSummary | None:
        """The run's summary."""
        return self.run.finished(fingerprint)

    def progress(self) -> str:
        """The newest checkpoint."""
        return self.run.progress()

    def prepare(self, fingerprint: str, before: str | None, restart: bool) -> None:
        """Never mixes two configurations in a folder; fetches what the backbone begins with."""
        changed = before not in (None, fingerprint) and self.progress()
        if changed or self.run.of_another(fingerprint):
            if not restart:
                raise self.run.refusal()
            say(f"{self.title} starts over with another configuration")
            self.run.clear()
        fetch_for(self.run)


class Detection:
    """The detection with a trained run.

    Args:
        run: folder of the trained run.
        out: JSON file to write.
        scoring: activation for the scores; by default the config's first.
        device: passed on.
        last: passed on.
        per_class: passed on.
        keep: passed on.
    """

    rule, per_class, keep = "detect", None, False  # of jobs that 0.6.0 has submitted

    def __init__(
        self,
        run: str | Path,
        out: Path,
        scoring: str | None = None,
        device: str | None = None,
        last: bool = False,
        per_class: int | None = None,
        keep: bool = False,
    ) -> None:
        self.run, self.device, self.last = RunFolder(run), device, last
        self.per_class, self.keep = per_class, keep
        self.rule = "detect_per_class" if per_class else "detect"
        self.out, self.scoring = out, scoring
        self.title, self.record = f"the detection {out}", out.with_suffix(".job")

    def do(self) -> None:
        """Detects."""
        from gol.engine.detect import detect

        options = {"device": self.device, "last": self.last}
        options |= {"per_class": self.per_class, "keep": self.keep}
        detect(self.run.path, self.out, self.scoring, **options)

    def splits(self, config: dict[str, Any]) -> list[dict[str, Any]]:
        """The test split; the training images that LogN measures are read where they are."""
        return [config["data"]["test"]]

    def fingerprint(self) -> str:
        """Hash of the config, the weights and the test annotations."""
        config = read_config(self.run.path)
        trained = self.run.summary.exists()
        parts: list[Any] = [fingerprint(config), self.scoring]
        if self.scoring is None and "calibration" in config["gol"]["axes"]:
            parts.append(config["gol"]["scorings"][0])  # the config's fingerprint leaves it out
        if self.per_class:
            parts.append({"per_class": self.per_class})
        if trained:
            parts.append(self.run.read_summary().finished)
        if self.keep:
            parts.append("with logits")
        weights = self.run.weights if self.last else self.run.chosen
        if weights != self.run.weights:
            parts.append(weights.name)
        for path in (weights, Path(config["data"]["test"]["ann_file"])):
            try:
                state = path.stat()
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror}") from error
            # Snakemake touches weights that were there already.
            changed = 0 if trained and path == weights else state.st_mtime_ns
            parts.append([state.st_size, changed])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def result(self, fingerprint: str) -> Path | None:
        """The output, if the last job was this configuration's and what it keeps is there."""
        record = JobRecord.read(self.record) if self.out.exists() else None
        done = record is not None and record.fingerprint == fingerprint and self._has_kept()
        return self.out if done else None

    def _has_kept(self) -> bool:
        """Whether the logits that it is to keep are there; people remove them."""
        if not self.keep:
            return True
        from gol.engine.kept import KeptFolder

        scoring = own_part(read_config(self.run.path)).scoring(self.scoring)
        return KeptFolder(self.run.kept(scoring, "val")).exists

    def progress(self) -> str:
        """Nothing: a detection begins at the beginning."""
        return ""

    def prepare(self, fingerprint: str, before: str | None, restart: bool) -> None:
        """Removes the output of another configuration: it is simply done again."""
        own = own_part(read_config(self.run.path))
        own.detected(self.scoring, self.per_class, self.keep)  # before a good output is gone
        self.out.unlink(missing_ok=True)
        if before != fingerprint:
            remove(self.run.cost_of(self.out))
