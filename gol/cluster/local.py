"""Jobs that are processes of this machine, by submitit's local executor; ids are process ids."""

import contextlib
import os
import signal
import socket

from gol.cluster import slurm
from gol.cluster.jobs import GONE, JobInfo, JobRecord, Jobs
from gol.cluster.payload import Payload
from gol.cluster.settings import Settings
from gol.cluster.tasks import Task
from gol.errors import UserError

_NAME = "GOL_JOB"  # environment variable that names the job
_FOREVER = 60 * 24 * 365  # minutes: a local job ends when it is done


class LocalJobs(Jobs):
    """Processes of this machine."""

    poll, settle = 0.2, 0.0

    def submit(self, task: Task, record: JobRecord, settings: Settings) -> JobRecord:
        """Starts a job."""
        import submitit
        from submitit.core.utils import environment_variables

        executor = submitit.LocalExecutor(task.run.logs, python=settings.python or None)
        executor.update_parameters(
            timeout_min=_FOREVER,
            stderr_to_stdout=True,
            tasks_per_node=settings.tasks_per_node,
            setup=[settings.setup] if settings.setup else [],
        )
        # A terminal that is closed must not take the job along.
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with slurm.clean_environment(), environment_variables(**{_NAME: record.name}):
                process = int(executor.submit(Payload.with_own_gpus(task, settings)).job_id)
        finally:
            signal.signal(signal.SIGHUP, before)
        place = {"started": _started(process), "host": socket.gethostname(), "inside": _inside()}
        return record.model_copy(update={"id": str(process), **place})

    def find(self, record: JobRecord) -> JobInfo | None:
        """The job, running or gone."""
        here = socket.gethostname()
        if record.id is None:
            self.cancel(record)
            state = "COMPLETING" if _controllers(record.name) else GONE
        elif record.host not in (None, here) and slurm.is_over(record.inside):
            state = GONE
        elif record.host not in (None, here):
            raise UserError(
                f"{record.name} was started on {record.host} as process {record.id}: type the "
                f"command there, or remove {record.file} if it is gone"
            )
        else:
            state = "RUNNING" if _processes(record) else GONE
        return JobInfo(record.id or "", state, name=record.name)

    def cancel(self, record: JobRecord) -> bool:
        """Interrupts the job's controller, which ends the tasks."""
        for process in _processes(record):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGINT)
        return True

    def remedy(self, record: JobRecord) -> str:
        """An interrupt."""
        return f"kill -INT {record.id or ' '.join(map(str, _controllers(record.name)))}"


def _inside() -> str | None:
    """This process's Slurm job, and how often it was requeued."""
    job = os.environ.get("SLURM_JOB_ID")
    return job and f"{job}.{os.environ.get('SLURM_RESTART_COUNT', 0)}"


def _processes(record: JobRecord) -> list[int]:
    """The job's controller, if it is alive."""
    if record.id is None:
        return _controllers(record.name)
    # Process ids are used again, so the time of the start belongs to it.
    started = _started(int(record.id))
    return [int(record.id)] if started is not None and started == record.started else []


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
