"""Several processes that train or detect together: who they are, and what they tell each other.

A *rank* is one process of a job. The ranks meet at a rendezvous that rank 0 (or torchrun) keeps,
under an address that torchrun's, Slurm's or submitit's variables give. Gradients travel in torch's
default group (NCCL, or gloo without GPUs); everything else is a few numbers in a gloo group of its
own, which waits as long as it takes and yet notices at once when a process is gone.
"""

import itertools
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, BinaryIO

import torch
import torch.distributed as dist
from torch import Tensor

from gol.engine.failures import Watch
from gol.engine.health import check_device, check_granted
from gol.errors import LostJobError, UserError, choices, visible

_MEETING = timedelta(minutes=10)  # for all ranks to be there, and for one exchange of gradients
_COPYING = timedelta(hours=12)  # for all ranks to be there where machines copy images before
_PATIENCE = timedelta(days=30)  # a rank may write a checkpoint or detect for hours meanwhile
_MOST_WORKERS = 16  # more load no faster, and each holds what the dataset does
_PORTS = range(20000, 32000)  # below those that Linux hands out to clients
_joins = itertools.count()
_rendezvous: dist.Store | None = None
_copied = False  # whether images are copied before the ranks of this job meet


@dataclass(frozen=True)
class Address:
    """Where one process stands in its job.

    Attributes:
        rank: number of this process among all.
        world: number of processes.
        local_rank: number of this process on its machine.
        url: where rank 0 waits; ``env://`` where torchrun's variables say it.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    url: str = "env://"


def find_address() -> Address:
    """Reads torchrun's variables, else submitit's or Slurm's own; without any, one process."""
    env = os.environ
    if "RANK" in env and "WORLD_SIZE" in env:
        local = int(env.get("LOCAL_RANK", env["RANK"]))
        return Address(int(env["RANK"]), int(env["WORLD_SIZE"]), local)
    if env.get("SUBMITIT_EXECUTOR") == "local":
        from submitit.local.local import LocalJobEnvironment

        job = LocalJobEnvironment()
        return Address(job.global_rank, job.num_tasks, job.local_rank, _url(job.raw_job_id))
    if "SLURM_STEP_NUM_TASKS" in env:  # not in a batch script or salloc's shell, only under srun
        from submitit.slurm.slurm import SlurmJobEnvironment

        job, world = SlurmJobEnvironment(), int(env["SLURM_STEP_NUM_TASKS"])
        nodes = int(env.get("SLURM_STEP_NUM_NODES", job.num_nodes))
        host = "127.0.0.1" if nodes == 1 else _resolvable(job.hostnames[0])
        return Address(job.global_rank, world, job.local_rank, _url(job.raw_job_id, host))
    return Address()


def _url(job: str, host: str = "127.0.0.1") -> str:
    """Where rank 0 of a job waits: a port of its own, unless the user has chosen one."""
    host = os.environ.get("MASTER_ADDR", host)
    port = os.environ.get("MASTER_PORT", _PORTS[int(job) % len(_PORTS)])
    return f"tcp://{host}:{port}"


def _resolvable(host: str) -> str:
    """The host, or this machine where the name means nothing (several "nodes" on one machine)."""
    try:
        socket.getaddrinfo(host, None)
    except OSError:
        return "127.0.0.1"
    return host


def find_device(name: str | None, local_rank: int = 0) -> torch.device:
    """The named device, or a GPU if there is one, else the CPU.

    Args:
        name: ``cpu``, ``cuda:1`` …; ``cuda`` and None leave the choice among the visible GPUs.
        local_rank: chooses that GPU, modulo their number (Slurm may show each task one only).

    Raises:
        UserError: there is no such device.
    """
    gpus = torch.cuda.device_count()
    try:
        device = torch.device(name or ("cuda" if gpus else "cpu"))
    except RuntimeError:
        device = None
    if device and device.type == "cuda" and device.index is None and gpus:
        return torch.device("cuda", local_rank % gpus)
    if device and (device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < gpus)):
        return device
    allowed = choices(["cpu", *(f"cuda:{index}" for index in range(gpus))])
    raise UserError(f"no device '{name}'; allowed: {allowed}")


def loading_workers(config: Any, world: int) -> int:
    """How many processes load images for a rank.

    With ``gol.workers: auto`` that is the cores that this rank has beside its own threads: of
    Slurm's task or those that this process may run on, shared among the ranks of this machine.

    Args:
        config: the resolved config.
        world: number of ranks.
    """
    if config.gol.get("workers") != "auto":
        return config.data.workers_per_gpu
    cores, env = os.cpu_count() or 1, os.environ
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    per_task = env.get("SLURM_CPUS_PER_TASK")
    cores = min(cores, int(per_task or cores))
    sharing = int(env.get("LOCAL_WORLD_SIZE") or (1 if per_task else world))
    return min(max(cores // sharing - config.gol.threads, 0), _MOST_WORKERS)


@dataclass(frozen=True)
class Ranks:
    """This process among those of its job; with one process every exchange is a no-op."""

    rank: int
    world: int
    device: torch.device
    group: Any = None

    @property
    def is_main(self) -> bool:
        """Whether this is rank 0, which alone writes the run's files."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """The sum over all ranks of each value, in double precision."""
        if self.world == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(total, group=self.group)
        return total.tolist()

    def any(self, *flags: bool) -> list[bool]:
        """For each flag whether it is set on any rank."""
        return [count > 0 for count in self.sum([float(flag) for flag in flags])]

    def each(self, value: float) -> list[float]:
        """The value of every rank, in their order."""
        return self.sum([value if rank == self.rank else 0.0 for rank in range(self.world)])

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value; those of the other ranks are ignored."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def gather(self, value: Any) -> list[Any] | None:
        """On rank 0 the values of the other ranks, in their order; None elsewhere."""
        if self.world == 1:
            return []
        box = [None] * self.world if self.is_main else None
        dist.gather_object(None if self.is_main else value, box, dst=0, group=self.group)
        return box[1:] if box else None

    def all_reduce(self, tensors: list[Tensor]) -> None:
        """Replaces tensors on the device by their sums over all ranks, in one exchange."""
        if self.world > 1 and tensors:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            parts = flat.split([tensor.numel() for tensor in tensors])
            for tensor, part in zip(tensors, parts, strict=True):
                tensor.copy_(part.view_as(tensor))

    def barrier(self) -> None:
        """Waits until every rank is here, however long that takes."""
        self.sum([0])


@contextmanager
def join(device: str | None = None) -> Iterator[Ranks]:
    """Meets the other ranks of this job; at the end of the block all leave together.

    Args:
        device: ``cpu``, ``cuda`` …; see :func:`find_device`.

    Raises:
        UserError: no such device, or the other ranks did not come.
        NodeError: the GPU does not work.
        PeerError: another rank failed, with its reason; that rank raises the error itself.
    """
    address = find_address()
    if address.world == 1:
        yield Ranks(0, 1, working_device(device, address.local_rank))
        return
    rendezvous = dist.PrefixStore(f"gol{next(_joins)}", _meet(address))
    with Watch(rendezvous, address.rank, address.world) as watch:
        chosen = working_device(device, address.local_rank)
        ranks = _initialise(rendezvous, address, chosen)
        try:
            yield ranks
            ranks.barrier()
        except BaseException as error:
            watch.report(error)  # before the others see the connections close
            with suppress(Exception):
                dist.group.WORLD.abort()  # NCCL would wait for those that do not come
            raise
        finally:
            with suppress(Exception):
                dist.destroy_process_group()


def working_device(name: str | None, local_rank: int) -> torch.device:
    """As :func:`find_device`, for a process of a job; a GPU has passed its health check.

    Raises:
        UserError: there is no such device.
        NodeError: it does not work.
    """
    if name != "cpu":
        check_granted()
    device = find_device(name, local_rank)
    if device.type == "cuda":
        check_device(device)
    return device


@contextmanager
def after_copying() -> Iterator[None]:
    """Ranks that meet within the block may come much later on one machine than on another."""
    global _copied
    _copied = True
    try:
        yield
    finally:
        _copied = False


def _meet(address: Address) -> dist.Store:
    """The rendezvous of this job, made once in a process."""
    global _rendezvous
    if _rendezvous is None:
        patience = _COPYING if _copied else _MEETING
        numbers = {"rank": address.rank, "world_size": address.world, "timeout": patience}
        with _scratch() as words:
            try:
                with _stderr_in(words):
                    _rendezvous = next(iter(dist.rendezvous(address.url, **numbers)))[0]
                _rendezvous.set_timeout(_MEETING)
            except (RuntimeError, OSError, ValueError) as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                if re.search("address already in use|Ping failed", reason):
                    reason += "; another program has this port: MASTER_PORT chooses one"
                else:
                    _print_last(words)
                raise LostJobError(
                    f"rank {address.rank} of {address.world} found no others at {address.url}: "
                    f"{reason}"
                ) from error
    return _rendezvous


def _scratch() -> BinaryIO:
    """A file without a name; where there is no room for one, what is written to it is lost."""
    try:
        return tempfile.TemporaryFile()
    except OSError:
        return open(os.devnull, "rb+")


@contextmanager
def _stderr_in(file: BinaryIO) -> Iterator[None]:
    """Where a port is somebody else's, torch writes a C++ stack for each of many attempts."""
    sys.stderr.flush()
    kept = os.dup(2)
    os.dup2(file.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)


def _print_last(file: BinaryIO) -> None:
    """What torch said last, without its stacks."""
    file.seek(0)
    lines = file.read().decode(errors="replace").splitlines()
    for line in [line for line in lines if line.startswith("[")][-3:]:
        print(visible(line), file=sys.stderr, flush=True)


def outlive_main(seconds: float = 60) -> None:
    """Waits until rank 0 is gone: only then has submitit requeued the job."""
    end = time.monotonic() + seconds
    with suppress(Exception):
        while _rendezvous is not None and find_address().rank > 0 and time.monotonic() < end:
            _rendezvous.check(["anything"])
            time.sleep(0.1)


def _initialise(rendezvous: dist.Store, address: Address, device: torch.device) -> Ranks:
    backend = "gloo"
    if device.type == "cuda":
        torch.cuda.set_device(device)
        backend = "nccl" if _own_gpus(rendezvous, address, device) else "gloo"
    dist.init_process_group(
        backend,
        store=rendezvous,
        rank=address.rank,
        world_size=address.world,
        timeout=_MEETING,
    )
    group = dist.new_group(backend="gloo", timeout=_PATIENCE)
    return Ranks(address.rank, address.world, device, group)


def _own_gpus(rendezvous: dist.Store, address: Address, device: torch.device) -> bool:
    """Whether no two ranks share a GPU, which NCCL refuses."""
    rendezvous.set(f"gpu{address.rank}", str(torch.cuda.get_device_properties(device).uuid))
    return len({rendezvous.get(f"gpu{rank}") for rank in range(address.world)}) == address.world
