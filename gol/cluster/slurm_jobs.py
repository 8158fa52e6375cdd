"""Jobs of Slurm; two of one name never run at once."""

import math
import shutil
from functools import partial

from gol.cluster import slurm
from gol.cluster.jobs import NO_JOB, JobInfo, JobRecord, Jobs
from gol.cluster.payload import Payload
from gol.cluster.settings import Settings
from gol.cluster.tasks import Task
from gol.errors import UserError


def _sharing(settings: Settings) -> Settings:
    """The settings with as large a part of a GPU as lets ``runs_per_gpu`` runs share one.

    Raises:
        UserError: the cluster does not divide its GPUs.
    """
    if settings.runs_per_gpu < 2:
        return settings
    parts = slurm.shards(settings.slurm_partition)
    if not parts:
        raise UserError(
            f"runs_per_gpu {settings.runs_per_gpu}: this cluster does not divide its GPUs "
            "(GresTypes=shard); docs/cluster.md says how several runs share a job's GPU instead"
        )
    part = math.ceil(parts / settings.runs_per_gpu)
    return settings.model_copy(update={"gres": f"shard:{part}"})


class SlurmJobs(Jobs):
    """Jobs of Slurm."""

    poll, settle = 0.5, 8.0

    def submit(self, task: Task, record: JobRecord, settings: Settings) -> JobRecord:
        """Submits a job, and waits while slurmctld cannot take it."""
        if not shutil.which("sbatch"):
            raise UserError("no sbatch here: type this on a cluster's login node")
        from gol.cluster.sbatch import make_executor, wishes

        settings = _sharing(settings)
        with slurm.clean_environment([*wishes(settings), *settings.sbatch_options]):
            # Without an answer it may have been taken all the same; that job lacks its input.
            payload = Payload(task, settings.stage)
            forget = partial(self.cancel, record)
            while True:
                executor = make_executor(task, record, settings, forget)
                try:
                    return record.model_copy(update={"id": executor.submit(payload).job_id})
                except UserError:
                    # Slurm refuses to leave no node, and to leave out one that it has no more.
                    if not record.excluded:
                        raise
                    record = record.model_copy(update={"excluded": record.excluded[1:]})

    def find(self, record: JobRecord) -> JobInfo | None:
        """The job as Slurm sees it."""
        if not shutil.which("squeue"):  # waiting for an answer would never end
            raise UserError(
                f"squeue is not installed here, so job {record.id or record.name} of Slurm cannot "
                f"be followed: type this on its cluster, or remove {record.file} if it is gone"
            )
        if record.id is not None:
            return slurm.find(record)
        found = slurm.alive(record)
        if found is None:
            return None
        for info in found:
            slurm.cancel(info)
        return NO_JOB._replace(state="COMPLETING") if found else NO_JOB

    def cancel(self, record: JobRecord) -> bool:
        """Asks Slurm to cancel."""
        found = slurm.alive(record)
        return found is not None and all([slurm.cancel(info) for info in found])

    def remedy(self, record: JobRecord) -> str:
        """The command that ends it."""
        return f"scancel {record.id or f'--name={record.name}'}"
