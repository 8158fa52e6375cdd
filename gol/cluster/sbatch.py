"""How a job is handed to Slurm by submitit's executor: what sbatch is told, what it answers."""

import contextlib
import io
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from gol.cluster.joblog import say
from gol.cluster.jobs import JobRecord
from gol.cluster.settings import Settings
from gol.cluster.tasks import Task
from gol.errors import UserError

_LIMIT = 120  # seconds for one call of sbatch
_TIMED_OUT = 124  # exit code of `timeout`
_PAUSE, _LONGEST = 5.0, 120.0  # seconds before the second attempt, and before the last ones
#: What sbatch says when the user, the account or the cluster has as many jobs as it may.
_FULL = re.compile(r"(qos|assoc)\w*submit|temporarily unable to accept", re.IGNORECASE)
#: What it says when the same may succeed later, and the job may have been taken.
_UNREACHED = re.compile(
    r"unable to contact|timed out|connection refused|temporarily|try again|transport endpoint"
    r"|zero bytes|unexpected message",
    re.IGNORECASE,
)


class _Executor(submitit.SlurmExecutor):
    """Tries again while sbatch cannot take the job; submitit's own gives up and repeats sbatch."""

    def __init__(self, task: Task, python: str, forget: Callable[[], Any]) -> None:
        # A run ends when it makes no progress, not after some number of time-outs.
        folder = task.run.logs.absolute()
        super().__init__(folder, max_num_timeout=10**6, python=python or None)
        self.title, self.forget = task.title, forget
        self._script: Path | None = None
        self._earlier = {*folder.glob("*.pkl")}

    def _make_submission_command(self, submission_file_path: Path) -> list[str]:
        self._script = submission_file_path
        command = super()._make_submission_command(submission_file_path)
        return ["timeout", str(_LIMIT), *command]

    def _submit_command(self, command: str) -> submitit.Job:
        inputs = {*self.folder.glob("*.pkl")} - self._earlier
        try:
            return self._insist(command)
        except (UserError, KeyboardInterrupt):
            if len(inputs) == 1:  # none of another job of the run's
                inputs.pop().unlink(missing_ok=True)
            if self._script:
                self._script.unlink(missing_ok=True)
            raise

    def _insist(self, command: str) -> submitit.Job:
        said, pause = set(), _PAUSE
        while True:
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    return super()._submit_command(command)
            except FailedSubmissionError as error:
                self.forget()
                text = " ".join(str(error).split())
                raise UserError(f"sbatch gave no job id for {self.title}: {text}") from error
            except FailedJobError as error:
                self._script.unlink(missing_ok=True)
                code = getattr(error.__cause__, "returncode", 1)
                reason, full, later = judge_refusal(str(error), code)
                if not later:
                    raise UserError(f"sbatch refused {self.title}: {reason}") from error
                if reason not in said:
                    say(f"sbatch cannot submit {self.title} yet: {reason}; trying again")
                    said.add(reason)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST)
            if not full:
                self.forget()


def judge_refusal(text: str, code: int) -> tuple[str, bool, bool]:
    """What a failure of sbatch means.

    Args:
        text: what it wrote on stderr.
        code: its exit code.

    Returns:
        the reason for people; whether a limit on submitted jobs is reached; whether the same may
        succeed later.
    """
    lines = [re.sub(r"^sbatch: (error|fatal): ", "", line.strip()) for line in text.splitlines()]
    reason = "; ".join(dict.fromkeys(filter(None, lines)))
    timed_out = code == _TIMED_OUT
    full = bool(_FULL.search(text)) and not timed_out
    reason = reason or (f"no answer in {_LIMIT} s" if timed_out else f"exit code {code}")
    return reason, full, full or timed_out or bool(_UNREACHED.search(text))


def make_executor(
    task: Task, record: JobRecord, settings: Settings, forget: Callable[[], Any]
) -> submitit.SlurmExecutor:
    """An executor whose ``submit`` waits while sbatch cannot take the job.

    Args:
        task: whose logs the job writes.
        record: has its name, and the nodes that it is kept from.
        settings: where and how it runs.
        forget: cancels what was submitted without an answer.

    Raises:
        UserError: by ``submit``, if sbatch refuses the job.
    """
    executor = _Executor(task, settings.python, forget)
    step = ["--kill-on-bad-exit=1", *shlex.split(settings.srun_extra)]
    if settings.cpus_per_task:  # srun does not take it from sbatch any more
        step.append(f"--cpus-per-task={settings.cpus_per_task}")
    options, kept_from = settings.sbatch_options, record.excluded
    executor.update_parameters(
        job_name=record.name,
        time=settings.runtime,
        nodes=settings.nodes,
        ntasks_per_node=settings.tasks_per_node,
        signal_delay_s=settings.signal_delay,
        stderr_to_stdout=True,
        wckey=None,
        srun_args=step,
        additional_parameters={
            "requeue": True,
            **options,
            **({"exclude": _listed(options.get("exclude"), *kept_from)} if kept_from else {}),
            # Two jobs of one name never run at once.
            "dependency": _listed("singleton", options.get("dependency")),
            # Ours comes first, since the job is known by it.
            "comment": " ".join(filter(None, [record.comment, options.get("comment")])),
        },
        **wishes(settings),
    )
    return executor


def _listed(*values: str | None) -> str:
    return ",".join(filter(None, values))


def wishes(settings: Settings) -> dict[str, Any]:
    """sbatch's options for what is not left to the cluster, by submitit's names."""
    per_cpu = settings.mem_mb_per_cpu
    all_wishes = {
        "partition": settings.slurm_partition,
        "account": settings.slurm_account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "gres": settings.gres,
        # Slurm refuses two statements about the memory, and adds up two about the GPUs.
        "gpus_per_node": 0 if re.search("gpu|shard", settings.gres) else settings.gpus_per_node,
        "cpus_per_task": settings.cpus_per_task,
        "mem": f"{settings.mem_mb}MB" if settings.mem_mb and not per_cpu else "",
        "mem_per_cpu": f"{per_cpu}MB" if per_cpu else "",
        "setup": [settings.setup] if settings.setup else None,
    }
    return {name: value for name, value in all_wishes.items() if value}
