"""Jobs of Slurm, by submitit's Slurm executor; two of one name never run at once."""

import re
import shlex
import shutil
import time
from pathlib import Path
from typing import Any

from gol.cluster import slurm
from gol.cluster.joblog import say
from gol.cluster.jobs import GONE, JobInfo, JobRecord, Jobs
from gol.cluster.payload import Payload
from gol.cluster.settings import Settings
from gol.cluster.tasks import Task
from gol.errors import UserError

_SBATCH_LIMIT = 120  # seconds
_PATIENCE = 5.0  # seconds between two attempts to submit
#: What sbatch says when the same may succeed later.
_LATER = re.compile(
    r"unable to contact|timed out|connection refused|temporarily|try again|transport endpoint"
    r"|max\w*submit|zero bytes|unexpected message|return code 124",
    re.IGNORECASE,
)


class SlurmJobs(Jobs):
    """Jobs of Slurm."""

    poll, settle = 0.5, 8.0

    def submit(self, task: Task, record: JobRecord, settings: Settings) -> JobRecord:
        """Submits a job, and waits while slurmctld cannot take it."""
        from submitit.core.utils import FailedJobError

        with slurm.clean_environment():
            executor = _executor(record.name, task.run.logs, settings)
            said = ""
            while True:
                try:
                    return record.model_copy(update={"id": executor.submit(Payload(task)).job_id})
                except FailedJobError as error:
                    text = " ".join(str(error).split())
                    if not _LATER.search(text):
                        raise UserError(f"sbatch refused {task.title}: {text}") from error
                    if text != said:
                        say(f"sbatch cannot submit {task.title} yet: {text}")
                        said = text
                    time.sleep(_PATIENCE)
                    # It may have been taken although no answer came; that job lacks its input.
                    self.cancel(record)

    def find(self, record: JobRecord) -> JobInfo | None:
        """The job as Slurm sees it."""
        if record.id is not None:
            return slurm.job(record.id)
        found = slurm.alive_under(record.name)
        if found is None:
            return None
        for info in found:
            slurm.cancel(info.id)
        state = "COMPLETING" if found else GONE
        return JobInfo("", state, 0, record.name, "")

    def cancel(self, record: JobRecord) -> None:
        """Asks Slurm to cancel."""
        known = [] if record.id is None else [record.id]
        for identity in known or [info.id for info in slurm.alive_under(record.name) or []]:
            slurm.cancel(identity)


def _executor(name: str, folder: Path, settings: Settings) -> Any:
    import submitit

    if not shutil.which("sbatch"):
        raise UserError("no sbatch here: type this on a cluster's login node")

    class Executor(submitit.SlurmExecutor):
        """submitit's own waits for sbatch as long as sbatch likes."""

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            command = super()._make_submission_command(submission_file_path)
            return ["timeout", str(_SBATCH_LIMIT), *command]

    # A run ends when it makes no progress, not after some number of time-outs.
    executor = Executor(folder, max_num_timeout=10**6, python=settings.python or None)
    step = ["--kill-on-bad-exit=1", *shlex.split(settings.srun_extra)]
    if settings.cpus_per_task:  # srun does not take it from sbatch any more
        step.append(f"--cpus-per-task={settings.cpus_per_task}")
    wishes = {
        "partition": settings.slurm_partition,
        "account": settings.slurm_account,
        "constraint": settings.constraint,
        "gpus_per_node": settings.gpus_per_node,
        "cpus_per_task": settings.cpus_per_task,
        "mem": f"{settings.mem_mb}MB" if settings.mem_mb else "",
        "setup": [settings.setup] if settings.setup else None,
    }
    executor.update_parameters(
        job_name=name,
        time=settings.runtime,
        nodes=settings.nodes,
        ntasks_per_node=settings.tasks_per_node,
        signal_delay_s=settings.signal_delay,
        stderr_to_stdout=True,
        wckey=None,
        srun_args=step,
        additional_parameters={
            "requeue": True,
            "dependency": "singleton",
            **settings.sbatch_options,
        },
        **{key: value for key, value in wishes.items() if value},
    )
    return executor
