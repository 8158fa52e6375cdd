"""How jobs run: the settings that a profile gives, and that ``gol launch`` takes as options."""

import shlex
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gol.errors import invalid


class Settings(BaseModel):
    """Where and how a job runs; an empty text or 0 leaves a choice to the cluster.

    Snakemake hands them on as resources, since a changed resource makes no rule run again. Those
    that snakemake's own Slurm plug-in knows have the same names here. The descriptions are the
    help of ``gol launch``.

    Raises:
        UserError: a value that is not allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cluster: Literal["local", "slurm"] = Field(
        "local", description="local (a process here) or slurm"
    )
    device: str = Field("", description="cpu, cuda, cuda:1 … (default: the GPU if there is one)")
    slurm_partition: str = Field("", description="partition")
    slurm_account: str = Field("", description="account")
    runtime: int = Field(
        24 * 60, ge=1, description="minutes until a job has to make room (default: a day)"
    )
    nodes: int = Field(1, ge=1, description="machines")
    tasks_per_node: int = Field(1, ge=1, description="processes per machine: one per GPU")
    gpus_per_node: int = Field(0, ge=0, description="GPUs per machine")
    cpus_per_task: int = Field(0, ge=0, description="CPU cores per process")
    mem_mb: int = Field(0, ge=0, description="memory per machine, in MB")
    constraint: str = Field("", description="features that a machine must have")
    slurm_extra: str = Field(
        "", description="more options of sbatch, e.g. '--qos=high --exclude=n7'"
    )
    srun_extra: str = Field("", description="more options of srun")
    setup: str = Field("", description="shell commands first, e.g. 'module load cuda'")
    python: str = Field("", description="command instead of this python, e.g. one in a container")
    signal_delay: int = Field(
        120, ge=0, description="seconds from the warning to the end of the time"
    )
    tries: int = Field(3, ge=1, description="failures without progress until it gives up")
    changed: Literal["refuse", "restart"] = Field(
        "refuse", description="refuse or restart a training of another configuration"
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise invalid(type(self), error) from error

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if self.cluster == "local" and self.nodes > 1:
            raise ValueError("nodes must be 1 with cluster 'local'")
        _ = self.sbatch_options
        return self

    @property
    def sbatch_options(self) -> dict[str, Any]:
        """``slurm_extra`` as option → value, True for an option without one."""
        options: dict[str, Any] = {}
        last = None
        for word in shlex.split(self.slurm_extra):
            if word.startswith("--"):
                last, equals, value = word[2:].partition("=")
                options[last] = value if equals else True
            elif last and options[last] is True:
                options[last] = word
            else:
                raise ValueError(f"slurm_extra: expected --option=value, not '{word}'")
        return options
