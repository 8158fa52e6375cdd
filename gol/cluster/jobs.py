"""Submits work through submitit, says how its job is, and cancels it: here or on Slurm."""

import contextlib
import os
import re
import shlex
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import Any

from gol.cluster import slurm
from gol.cluster.joblog import say
from gol.cluster.settings import Settings
from gol.cluster.tasks import Work
from gol.errors import UserError

_NAME = "GOL_JOB"  # environment variable that names a local job
_FOREVER = 60 * 24 * 365  # minutes: a local job ends when it is done
_SBATCH_LIMIT = 120  # seconds
_PATIENCE = 5.0  # seconds between two attempts to submit
#: What sbatch says when the same may succeed later.
_LATER = re.compile(
    r"unable to contact|timed out|connection refused|temporarily|try again|transport endpoint"
    r"|max\w*submit|zero bytes|unexpected message|return code 124",
    re.IGNORECASE,
)


class LocalJobs:
    """Jobs that are processes of this machine; ids are process ids."""

    poll = 0.2  # seconds between two looks at a job's files
    settle = 0.0  # seconds that an end must last: a requeue shows one for a moment

    @staticmethod
    def submit(work: Work, folder: Path, settings: Settings) -> dict[str, Any]:
        """Starts a job; returns what finds it again."""
        import submitit
        from submitit.core.utils import environment_variables

        executor = submitit.LocalExecutor(folder=folder, python=settings.python or None)
        executor.update_parameters(
            timeout_min=_FOREVER,
            stderr_to_stdout=True,
            tasks_per_node=settings.tasks_per_node,
            setup=[settings.setup] if settings.setup else [],
        )
        work.keep_gpus()
        # A terminal that is closed must not take the job along.
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with slurm.clean_environment(), environment_variables(**{_NAME: work.name}):
                identity = executor.submit(work).job_id
        finally:
            signal.signal(signal.SIGHUP, before)
        return {"id": identity, "started": _started(int(identity)), "host": socket.gethostname()}

    @staticmethod
    def find(record: dict[str, Any]) -> slurm.JobInfo | None:
        """The record's job, in state GONE when it has ended.

        A record without an id was written before the job was started: what was started under its
        name is ended, since it may lack its input.
        """
        identity, started = record.get("id"), record.get("started")
        host = record.get("host", socket.gethostname())
        if host != socket.gethostname() and identity:
            raise UserError(
                f"{record['name']} was started on {host} as process {identity}: type the command "
                "there, or remove the record (job.json, or *.job of a detection) if it is gone"
            )
        if identity:
            # Process ids are used again, so the time of the start belongs to it.
            alive = started and _started(int(identity)) == started
            state = "RUNNING" if alive else slurm.GONE
        else:
            LocalJobs.cancel(record)
            state = "COMPLETING" if _controllers(record["name"]) else slurm.GONE
        return slurm.JobInfo(str(identity), state, 0, record["name"], "")

    @staticmethod
    def cancel(record: dict[str, Any]) -> None:
        """Interrupts the job's controller, which ends the tasks."""
        if record.get("id"):
            alive = _started(int(record["id"])) == record["started"]
            processes = [int(record["id"])] if alive else []
        else:
            processes = _controllers(record["name"])
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGINT)


def _controllers(name: str) -> list[int]:
    """submitit's processes that run the local jobs of a name."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if (
                process.environ().get(_NAME) == name
                and "submitit.local._local" in process.cmdline()
            ):
                found.append(process.pid)
    return found


def _started(process: int) -> float | None:
    """When a process started (Unix seconds), None if it is gone."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(process)
        if found.status() != psutil.STATUS_ZOMBIE:
            return found.create_time()
    return None


class SlurmJobs:
    """Jobs of Slurm; two of one name never run at once."""

    poll, settle = 0.5, 8.0

    @staticmethod
    def submit(work: Work, folder: Path, settings: Settings) -> dict[str, Any]:
        """Submits a job, and waits while slurmctld cannot take it.

        Raises:
            UserError: sbatch refuses; the message is sbatch's.
        """
        from submitit.core.utils import FailedJobError

        with slurm.clean_environment():
            executor = _slurm_executor(work.name, folder, settings)
            said = ""
            while True:
                try:
                    return {"id": executor.submit(work).job_id}
                except FailedJobError as error:
                    text = " ".join(str(error).split())
                    if not _LATER.search(text):
                        raise UserError(f"sbatch refused {work.title}: {text}") from error
                    if text != said:
                        say(f"sbatch cannot submit {work.title} yet: {text}")
                        said = text
                    time.sleep(_PATIENCE)
                    # It may have been taken although no answer came; that job lacks its input.
                    SlurmJobs.cancel({"name": work.name})

    @staticmethod
    def find(record: dict[str, Any]) -> slurm.JobInfo | None:
        """The record's job, in state GONE when Slurm has forgotten it; None for no answer.

        A record without an id was written before sbatch answered: what was submitted under its
        name is cancelled, since submitit had not yet written the job's input.
        """
        if record.get("id"):
            return slurm.job(record["id"])
        found = slurm.alive_under(record["name"])
        if found is None:
            return None
        for info in found:
            slurm.cancel(info.id)
        if found:
            return found[0]._replace(state="COMPLETING")
        return slurm.JobInfo("", slurm.GONE, 0, record["name"], "")

    @staticmethod
    def cancel(record: dict[str, Any]) -> None:
        """Cancels the job, or all of its name where the id is not known."""
        known = [record["id"]] if record.get("id") else []
        for identity in known or [info.id for info in slurm.alive_under(record["name"]) or []]:
            slurm.cancel(identity)


def _slurm_executor(name: str, folder: Path, settings: Settings) -> Any:
    import submitit

    if not shutil.which("sbatch"):
        raise UserError("no sbatch here: type this on a cluster's login node")

    class Executor(submitit.SlurmExecutor):
        """submitit's own waits for sbatch as long as sbatch likes."""

        def _make_submission_command(self, submission_file_path: Path) -> list[str]:
            command = super()._make_submission_command(submission_file_path)
            return ["timeout", str(_SBATCH_LIMIT), *command]

    # A training ends when it makes no progress, not after some number of time-outs.
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


JOBS: dict[str, Any] = {"local": LocalJobs, "slurm": SlurmJobs}
