"""What a job does, and the files by which a launcher follows it: a training or a detection."""

import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from gol.cluster.joblog import PROBLEM
from gol.config.resolve import fingerprint
from gol.errors import LostJobError, PeerError, UserError
from gol.files import read_json

_GPUS = "CUDA_VISIBLE_DEVICES"


class Work:
    """The training of a run folder, as submitit's job in every one of its tasks.

    Args:
        run: run folder prepared by ``gol config``.
        device: passed on.
    """

    def __init__(self, run: Path, device: str | None = None) -> None:
        self.run, self.device = run, device
        self.gpus: tuple[str | None, ...] = ()

    def __call__(self) -> None:
        """Does it; bad input ends in one line of the log and exit code 2."""
        if self.gpus:
            os.environ.pop(_GPUS, None)
            if self.gpus[0] is not None:
                os.environ[_GPUS] = self.gpus[0]
        try:
            self.do()
        except PeerError as error:  # the other rank's log says why
            print(f"gol: {error}", file=sys.stderr)
            sys.exit(1)
        except LostJobError as error:  # the launcher tries again
            print(f"gol: {error}", file=sys.stderr, flush=True)
            sys.exit(1)
        except UserError as error:
            print(PROBLEM + " ".join(str(error).split()), file=sys.stderr, flush=True)
            sys.exit(2)

    def checkpoint(self) -> Any:
        """What submitit queues again after a preemption: the same, which finds its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def keep_gpus(self) -> None:
        """Lets the job see this process's GPUs; submitit's local executor hides them."""
        self.gpus = (os.environ.get(_GPUS),)

    def do(self) -> None:
        """Trains."""
        from gol.engine.train import train

        train(self.run, self.device)

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"the training of {self.run}"

    @property
    def record(self) -> Path:
        """The file that says which job does it."""
        return self.run / "job.json"

    @property
    def name(self) -> str:
        """The job's name, the same whenever this work is launched."""
        path = self.record.absolute()
        mark = hashlib.sha256(str(path).encode()).hexdigest()[:8]
        return re.sub(r"[^\w.-]", "_", f"gol.{'.'.join(self.run.parts[-2:])}")[:60] + f".{mark}"

    def mark(self) -> str:
        """Fingerprint of all that the result depends on.

        Raises:
            UserError: no run folder, or its annotations cannot be read.
        """
        content = read_json(self.run / "config.json")
        if not isinstance(content, dict) or "gol" not in content:
            raise UserError(
                f"{self.run / 'config.json'} is no resolved config: write one with `gol config`"
            )
        return fingerprint(content)

    def result(self, mark: str) -> Any:
        """What the finished work left, None before its end."""
        done = self.run / "train.json"
        if not (done.exists() and (self.run / "model.pth").exists()):
            return None
        summary = read_json(done)
        return summary if summary.get("fingerprint") == mark else None

    def foreign(self, mark: str, changed: bool) -> bool:
        """Whether the run holds a training of another configuration.

        Args:
            mark: this configuration's fingerprint.
            changed: whether the last job was of another configuration.
        """
        done = self.run / "train.json"
        other = done.exists() and read_json(done).get("fingerprint") != mark
        return other or (changed and bool(self.begun()))

    def other(self) -> str:
        """Says that the files are of another configuration, and what to do."""
        return (
            f"{self.run} holds a training of another configuration or other annotations: remove "
            "that folder to train anew, give the pipeline another name, or use --changed restart"
        )

    def prepare(self) -> None:
        """Called before the job is submitted."""

    def begun(self) -> str:
        """Grows with every checkpoint; empty before the first."""
        return max((path.name for path in (self.run / "checkpoints").glob("*.pth")), default="")

    def clear(self) -> None:
        """Removes what an earlier training left, so that the next begins at the beginning."""
        shutil.rmtree(self.run / "checkpoints", ignore_errors=True)
        for name in ("train.json", "model.pth", "metrics.jsonl", "job.json"):
            (self.run / name).unlink(missing_ok=True)


class Detection(Work):
    """The detection with a trained run.

    Args:
        run: run folder with ``model.pth``.
        out: JSON file to write.
        scoring: activation for the scores; by default the config's first.
        device: passed on.
    """

    def __init__(
        self, run: Path, out: Path, scoring: str | None = None, device: str | None = None
    ) -> None:
        super().__init__(run, device)
        self.out, self.scoring = out, scoring

    def do(self) -> None:
        """Detects."""
        from gol.engine.detect import detect

        detect(self.run, self.out, self.scoring, device=self.device)

    @property
    def title(self) -> str:
        """What it is, for people."""
        return f"the detection {self.out}"

    @property
    def record(self) -> Path:
        """The file that says which job does it."""
        return self.out.with_suffix(".job")

    def mark(self) -> str:
        """Fingerprint of the config, the weights and the test annotations."""
        config = read_json(self.run / "config.json")
        trained = self.run / "train.json"
        parts: list[Any] = [super().mark(), self.scoring]
        if trained.exists():
            parts.append(read_json(trained)["finished"])
        for path in (self.run / "model.pth", Path(config["data"]["test"]["ann_file"])):
            try:
                state = path.stat()
            except OSError as error:
                raise UserError(f"cannot read {path}: {error.strerror}") from error
            # Snakemake touches a model.pth that was there already.
            changed = 0 if trained.exists() and path.name == "model.pth" else state.st_mtime_ns
            parts.append([state.st_size, changed])
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def result(self, mark: str) -> Any:
        """The output file, None before its end."""
        if not (self.out.exists() and self.record.exists()):
            return None
        return {"detections": str(self.out)} if read_json(self.record)["mark"] == mark else None

    def foreign(self, mark: str, changed: bool) -> bool:
        """Never: it is simply done again."""
        return False

    def prepare(self) -> None:
        """Removes the output of another configuration."""
        self.out.unlink(missing_ok=True)

    def begun(self) -> str:
        """Nothing: a detection begins at the beginning."""
        return ""
