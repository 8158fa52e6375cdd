"""How jobs run: the settings that a profile gives, and that ``gol launch`` takes as options."""

import re
import shlex
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gol.errors import invalid, shown, unknown

#: Options of sbatch by which a job is found, followed or ended: they are not the user's.
_OURS = {
    *("array", "chdir", "error", "job-name", "no-requeue", "open-mode", "output", "requeue"),
    *("signal", "test-only", "time", "wait", "wrap"),
}
#: Options to whose value ours is added.
_SHARED = ("comment", "dependency", "exclude")
#: Variables by which a user's environment would override those in a job's script.
VARIABLES = {f"SBATCH_{name.replace('-', '_').upper()}" for name in (*_OURS, *_SHARED)}
VARIABLES |= {"SBATCH_TIMELIMIT", "SBATCH_ARRAY_INX"}
#: Settings that are code on purpose, of which one may have several lines.
_MULTILINE = ("setup",)
#: Names of snakemake's own Slurm plug-in for settings of the same meaning.
_PLUG_IN = {"gpu": "gpus_per_node"}
#: Resources that snakemake knows itself, and the profile's number of steps on the login node.
_SNAKEMAKE = {"disk", "disk_mb", "disk_mib", "mem", "mem_mib", "tmpdir", "here"}


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
    qos: str = Field("", description="quality of service")
    runtime: int = Field(
        24 * 60, ge=1, description="minutes until a job has to make room (default: a day)"
    )
    nodes: int = Field(1, ge=1, description="machines")
    tasks_per_node: int = Field(1, ge=1, description="processes per machine: one per GPU")
    gpus_per_node: int = Field(0, ge=0, description="GPUs per machine")
    gres: str = Field("", description="generic resources, e.g. gpu:a100:4 instead of the former")
    runs_per_gpu: int = Field(
        0, ge=0, description="most runs at once on one GPU (default: one on Slurm, here no limit)"
    )
    cpus_per_task: int = Field(0, ge=0, description="CPU cores per process")
    mem_mb: int = Field(0, ge=0, description="memory per machine, in MB")
    mem_mb_per_cpu: int = Field(0, ge=0, description="memory per core instead, in MB")
    constraint: str = Field("", description="features that a machine must have")
    slurm_extra: str = Field(
        "", description="more options of sbatch, e.g. '--qos=high --exclude=n7'"
    )
    srun_extra: str = Field("", description="more options of srun")
    stage: str = Field(
        "", description="copy images to the node's disk first: auto ($SLURM_TMPDIR) or a folder"
    )
    setup: str = Field("", description="shell commands first, e.g. 'module load cuda'")
    python: str = Field("", description="command instead of this python, e.g. one in a container")
    signal_delay: int = Field(
        120, ge=0, description="seconds from the warning to the end of the time"
    )
    tries: int = Field(3, ge=1, description="failures without progress until it gives up")
    changed: Literal["refuse", "restart"] = Field(
        "refuse",
        description="refuse or restart a run that was trained with another configuration",
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
        if self.stage not in ("", "auto") and not self.stage.startswith(("/", "$")):
            raise ValueError(f"stage must be auto, /FOLDER or $VARIABLE, not {shown(self.stage)}")
        if self.runs_per_gpu > 1 and (self.nodes > 1 or self.tasks_per_node > 1):
            raise ValueError("runs_per_gpu above 1 is for runs with nodes 1 and tasks_per_node 1")
        if self.runs_per_gpu > 1 and self.gres:
            raise ValueError("runs_per_gpu above 1 asks for shards itself: gres must be empty")
        if self.cluster == "slurm" and self.signal_delay >= 60 * self.runtime:
            raise ValueError(
                f"signal_delay ({self.signal_delay} seconds) must be shorter than runtime "
                f"({self.runtime} minutes)"
            )
        for name, value in self:
            # A line of its own in the job's script would be a command.
            pattern = r"[\0-\x08\x0e-\x1f\x7f]" if name in _MULTILINE else r"[\0-\x1f\x7f]"
            if isinstance(value, str) and re.search(pattern, value):
                raise ValueError(f"{name} must be one line of text, not {shown(value)}")
        for name, value in self.sbatch_options.items():  # sbatch takes abbreviations
            if any(option.startswith(name.replace("_", "-")) for option in _OURS):
                raise ValueError(f"slurm_extra: --{name} is set by gol (see runtime, signal_delay)")
            for shared in _SHARED:
                if shared.startswith(name) and (name != shared or value is True):
                    raise ValueError(f"slurm_extra: expected --{shared}=value, not --{name}")
        _ = shlex.split(self.srun_extra)
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


def setting_names(names: Iterable[str], where: str, limits: Iterable[str] = ()) -> dict[str, str]:
    """The names of snakemake's resources, each with the one that is read here.

    Args:
        names: given by a profile or on the command line.
        where: for which rule.
        limits: resources that the user counts over all steps.

    Raises:
        UserError: nobody reads that resource; snakemake itself would say nothing.
    """
    counted = {name for name in limits if not name.startswith("_")}
    allowed = [*Settings.model_fields, *sorted({*_PLUG_IN, *_SNAKEMAKE, *counted})]
    for name in names:
        if name not in allowed:
            raise unknown("resource", name, allowed, where)
    return {name: _PLUG_IN.get(name, name) for name in names}
