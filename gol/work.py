"""Jobs that 0.2.0 submitted name these classes in their pickles; to be removed after 0.3."""

from pathlib import Path
from typing import Any

from gol.cluster.payload import Payload
from gol.cluster.tasks import Detection as _Detection
from gol.cluster.tasks import Task, Training


class Work:
    """A training that 0.2.0 submitted; pickle sets the attributes."""

    run: Path
    device: str | None
    gpus: tuple[str | None, ...]

    def _task(self) -> Task:
        return Training(self.run, self.device)

    def __call__(self) -> None:
        """Does it as today's jobs do."""
        Payload(self._task(), self.gpus)()

    def checkpoint(self) -> Any:
        """What submitit queues again: today's form of it."""
        return Payload(self._task(), self.gpus).checkpoint()


class Detection(Work):
    """A detection that 0.2.0 submitted."""

    out: Path
    scoring: str | None

    def _task(self) -> Task:
        return _Detection(self.run, self.out, self.scoring, self.device)
