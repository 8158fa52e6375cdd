"""What a launcher knows of a job, and what every kind of jobs can do."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from gol.cluster.settings import Settings
from gol.files import read_model, write_json

if TYPE_CHECKING:
    from gol.cluster.tasks import Task

GONE = "GONE"  # the state of a job that Slurm has forgotten, or whose process is gone
#: States in which nothing more happens to a job. All others may still lead to a requeue.
FINAL = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT", GONE),
}


class JobInfo(NamedTuple):
    """One job as Slurm sees it, or as if Slurm saw it."""

    id: str
    state: str
    restarts: int
    name: str
    reason: str


NO_JOB = JobInfo("", GONE, 0, "", "")


class JobRecord(BaseModel):
    """The file that says which job does a task; written before the job is submitted, and after.

    Attributes:
        file: where the record is kept; not part of its content.
        cluster: kind of the job.
        name: the job's name.
        fingerprint: of the configuration that it was submitted for.
        submitted: when (Unix seconds).
        id: Slurm's, or the process id; None until it is known.
        started: when the process of a local job started (Unix seconds).
        host: the machine of a local job.
    """

    model_config = ConfigDict(frozen=True)

    file: Path = Field(default=Path(), exclude=True)
    cluster: Literal["local", "slurm"]
    name: str
    # 0.2.0 called it mark
    fingerprint: str = Field(validation_alias=AliasChoices("fingerprint", "mark"))
    submitted: float
    id: str | None = None
    started: float | None = None
    host: str | None = None

    @classmethod
    def read(cls, file: Path) -> "JobRecord | None":
        """The record in a file; None where there is none.

        Raises:
            UserError: the file is damaged.
        """
        if not file.exists():
            return None
        return read_model(file, cls).model_copy(update={"file": file})

    def write(self) -> None:
        """Writes the record to its file."""
        write_json(self.file, self.model_dump(exclude_none=True))


class Jobs(ABC):
    """One kind of jobs.

    Attributes:
        poll: seconds between two looks at a job.
        settle: seconds that an end must last, since a requeue shows one for a moment.
    """

    poll: ClassVar[float]
    settle: ClassVar[float]

    @abstractmethod
    def submit(self, task: "Task", record: JobRecord, settings: Settings) -> JobRecord:
        """Starts a job under the record's name; returns the record with what finds it again.

        Raises:
            UserError: it cannot be submitted, with the reason.
        """

    @abstractmethod
    def find(self, record: JobRecord) -> JobInfo | None:
        """The record's job, in state GONE when nobody knows it any more; None for no answer.

        A record without an id was written before the job was: what was submitted under its name
        is ended, since it may lack its input, and not over until it is gone.
        """

    @abstractmethod
    def cancel(self, record: JobRecord) -> None:
        """Ends the job, or all of its name where the id is not known."""
