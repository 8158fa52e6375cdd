"""How jobs run: the settings that a profile gives, and that ``gol launch`` takes as options."""

import shlex
from dataclasses import dataclass, field
from typing import Any

from gol.errors import UserError, choices

CLUSTERS = ("local", "slurm")
CHANGED = ("refuse", "restart")


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True)
class Settings:
    """Where and how a job runs; an empty text or 0 leaves a choice to the cluster.

    Snakemake hands them on as resources, since a changed resource makes no rule run again. Those
    that snakemake's own Slurm plug-in knows have the same names here.

    Raises:
        UserError: a value that is not allowed.
    """

    cluster: str = _setting("local", "local (a process here) or slurm")
    device: str = _setting("", "cpu, cuda, cuda:1 … (default: the GPU if there is one)")
    slurm_partition: str = _setting("", "partition")
    slurm_account: str = _setting("", "account")
    runtime: int = _setting(24 * 60, "minutes until a job has to make room (default: a day)")
    nodes: int = _setting(1, "machines")
    tasks_per_node: int = _setting(1, "processes a machine: one a GPU")
    gpus_per_node: int = _setting(0, "GPUs a machine")
    cpus_per_task: int = _setting(0, "CPU cores a process")
    mem_mb: int = _setting(0, "memory a machine, in MB")
    constraint: str = _setting("", "features that a machine must have")
    slurm_extra: str = _setting("", "more options of sbatch, e.g. '--qos=high --exclude=n7'")
    srun_extra: str = _setting("", "more options of srun")
    setup: str = _setting("", "shell commands before the training, e.g. 'module load cuda'")
    python: str = _setting("", "command instead of this python, e.g. one in a container")
    signal_delay: int = _setting(120, "seconds from the warning to the end of the time")
    tries: int = _setting(3, "failures without progress until it gives up")
    changed: str = _setting("refuse", "refuse or restart a training of another configuration")

    def __post_init__(self) -> None:
        for name, allowed in (("cluster", CLUSTERS), ("changed", CHANGED)):
            if getattr(self, name) not in allowed:
                raise UserError(
                    f"unknown {name} '{getattr(self, name)}'; allowed: {choices(allowed)}"
                )
        for name in ("runtime", "nodes", "tasks_per_node", "tries"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.cluster == "local" and self.nodes > 1:
            raise UserError("nodes must be 1 with cluster 'local'")

    @property
    def sbatch_options(self) -> dict[str, Any]:
        """``slurm_extra`` as option → value, True for an option without one.

        Raises:
            UserError: an option that does not begin with ``--``.
        """
        options: dict[str, Any] = {}
        last = None
        for word in shlex.split(self.slurm_extra):
            if word.startswith("--"):
                last, equals, value = word[2:].partition("=")
                options[last] = value if equals else True
            elif last and options[last] is True:
                options[last] = word
            else:
                raise UserError(f"slurm_extra: expected --option=value, not '{word}'")
        return options
