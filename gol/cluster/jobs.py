"""What a launcher knows of a job, and what every kind of jobs can do."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from gol.cluster.settings import Settings
from gol.files import read_model, write_json

if TYPE_CHECKING:
    from gol.cluster.tasks import Task

_EXCLUDED = 4  # most nodes that a task is kept from
_SKEW = 600  # seconds by which Slurm's clock may be behind ours
GONE = "GONE"  # the state of a job that Slurm has forgotten, or whose process is gone
#: States in which nothing more happens to a job. All others may still lead to a requeue.
FINAL = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT", GONE),
}


class JobInfo(NamedTuple):
    """One job as Slurm sees it, or as if Slurm saw it; the time in Unix seconds."""

    id: str
    state: str
    restarts: int = 0
    name: str = ""
    reason: str = ""
    submitted: float = 0.0
    comment: str = ""
    nodes: str = ""  # as Slurm lists them: n7, or n[1-4]


NO_JOB = JobInfo("", GONE)


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
        inside: Slurm's job in which a local job was started, and its requeues by then: 7.0.
        excluded: Slurm's names of nodes that made jobs of this task fail, the latest last.
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
    inside: str | None = None
    excluded: tuple[str, ...] | None = None

    @classmethod
    def read(cls, file: Path) -> "JobRecord | None":
        """The record in a file; None where there is none.

        Raises:
            UserError: the file is damaged.
        """
        if not file.exists():
            return None
        return read_model(file, cls).model_copy(update={"file": file})

    def excluding(self, node: str) -> "JobRecord":
        """The record with one node more that the task is kept from; the oldest is forgotten."""
        others = [name for name in self.excluded or () if name != node]
        return self.model_copy(update={"excluded": (*others, node)[-_EXCLUDED:]})

    def write(self) -> None:
        """Writes the record to its file."""
        write_json(self.file, self.model_dump(exclude_none=True), writer="gol launch")

    @property
    def comment(self) -> str:
        """What the comment of a Slurm job begins with; jobs of 0.3.0 have none."""
        return f"gol:{self.fingerprint[:16]}"

    def is_of(self, job: JobInfo) -> bool:
        """Whether a job is the record's own: a controller may give its id to somebody else's.

        A job is submitted after its record was written, by clocks that may differ. A job that
        carries the comment, which a site may rewrite, needs no time.
        """
        if self.id not in (None, job.id) or job.name != self.name:
            return False
        skew = _SKEW if self.id else 0
        return job.comment == self.comment or job.submitted >= int(self.submitted) - skew


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
    def cancel(self, record: JobRecord) -> bool:
        """Ends the record's job, and no other; whether there was an answer."""

    @abstractmethod
    def remedy(self, record: JobRecord) -> str:
        """What a user can type to end the record's job by hand."""
