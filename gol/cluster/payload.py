"""What submitit carries to a job and calls in each of its processes."""

import os
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol.cluster.home import supply_home
from gol.cluster.outcome import Outcome, outcome_path
from gol.cluster.settings import Settings
from gol.errors import LostJobError, PeerError, UserError

if TYPE_CHECKING:
    from gol.cluster.tasks import Task

_GPUS = "CUDA_VISIBLE_DEVICES"


class Payload:
    """Does a task; why it failed stands in the log for people and in a file for the launcher.

    Args:
        task: what to do.
        stage: where images are copied first, see :func:`gol.cluster.staging.staged`.
        share: most runs on each of this machine's GPUs, see :func:`gol.cluster.gpus.pinned`; None
            where they are not chosen here.
        gpus: the value that ``CUDA_VISIBLE_DEVICES`` is to have, None for unset; empty: as it is.
    """

    stage, share = "", None  # of jobs that 0.6.0 has submitted

    def __init__(
        self,
        task: "Task",
        stage: str = "",
        share: int | None = None,
        gpus: tuple[str | None, ...] = (),
    ) -> None:
        self.task, self.stage, self.share, self.gpus = task, stage, share, gpus

    @classmethod
    def with_own_gpus(cls, task: "Task", settings: Settings) -> "Payload":
        """Lets the job see this process's GPUs; submitit's local executor hides them."""
        share = settings.runs_per_gpu if settings.tasks_per_node == 1 else None
        return cls(task, settings.stage, share, (os.environ.get(_GPUS),))

    def __call__(self) -> None:
        """Does it; exit code 2 after bad input, 1 after the loss of another process."""
        from submitit import JobEnvironment

        supply_home()
        if self.gpus:
            os.environ.pop(_GPUS, None)
            if self.gpus[0] is not None:
                os.environ[_GPUS] = self.gpus[0]
        job = JobEnvironment()
        place = (Path(os.environ["SUBMITIT_FOLDER"]), job.job_id, job.global_rank)
        outcome_path(*place).unlink(missing_ok=True)  # an earlier attempt's
        try:
            self._do()
        except Exception as error:
            if outcome := Outcome.of(error):
                with suppress(UserError):  # a full disk; the log has the reason too
                    outcome.write(*place)
            if not isinstance(error, UserError):
                raise
            elsewhere = isinstance(error, PeerError | LostJobError)
            text = f"{'' if elsewhere else 'error: '}{' '.join(str(error).split())}"
            print(f"gol: {text}", file=sys.stderr, flush=True)
            sys.exit(1 if elsewhere else 2)

    def _do(self) -> None:
        from gol.cluster.gpus import pinned
        from gol.cluster.staging import staged  # imports torch

        own_gpu = nullcontext(self.task) if self.share is None else pinned(self.task, self.share)
        with own_gpu as task, staged(task, self.stage):
            task.do()

    def checkpoint(self) -> Any:
        """What submitit queues again after a preemption: the same, which finds its checkpoint."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)
