"""Whether this machine's GPU works, asked before anything is loaded for it."""

import os
import re
import socket
import subprocess
from typing import TYPE_CHECKING

from gol.errors import NodeError

if TYPE_CHECKING:
    import torch

_BYTES = 1 << 28  # that the check writes and reads again
_SIDE = 1024  # of the matrices
_LIMIT = 5  # seconds for nvidia-smi, which is slow where no daemon keeps the driver loaded
#: What CUDA says of a GPU or a driver that does not work, whatever the program.
BROKEN = re.compile(
    r"(?i:uncorrectable (ECC|NVLink) error|device unavailable"
    r"|devices?(\(s\))? (is/)?are busy or unavailable"
    r"|no CUDA-capable device|No CUDA GPUs are available|Found no NVIDIA driver|CUDA unknown error"
    r"|hardware (stack )?error|system not yet initialized|GPU is lost|fallen off the bus)"
)


def this_node() -> str:
    """This machine's name, Slurm's where there is one."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def check_granted() -> None:
    """Refuses a node on which Slurm granted a GPU and CUDA finds none: the CPU would take weeks.

    Raises:
        NodeError: with the reason that CUDA gives.
    """
    import torch

    granted = os.environ.get("SLURM_STEP_GPUS") or os.environ.get("SLURM_JOB_GPUS")
    if not granted or torch.cuda.device_count():
        return
    reason = "none is visible"
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = _first_line(error)
    raise NodeError(
        f"{this_node()}: Slurm granted GPU {granted}, but CUDA finds none: {reason} "
        "(device=cpu trains without)"
    )


def check_device(device: "torch.device") -> None:
    """Allocates memory and multiplies matrices, which takes less than a second; asks for ECC.

    The global generators of random numbers stay as they are.

    Args:
        device: of this process.

    Raises:
        NodeError: it does not do that, or not right, or counts uncorrectable memory errors.
    """
    import torch

    place = f"{this_node()}: {device} fails its health check"
    try:
        if not _remembers(device):
            raise NodeError(f"{place}: its memory does not keep what is written to it")
        if not _multiplies(device):
            raise NodeError(f"{place}: its matrix product differs from the CPU's")
        if device.type != "cuda":
            return
        torch.cuda.empty_cache()
        uuid = torch.cuda.get_device_properties(device).uuid
    except (RuntimeError, AssertionError) as error:
        raise NodeError(f"{place}: {_first_line(error)}") from error
    if errors := ecc_errors(f"GPU-{uuid}"):
        raise NodeError(f"{place}: {errors} uncorrectable ECC errors since it was last reset")


def _remembers(device: "torch.device") -> bool:
    import torch

    numbers = torch.arange(_BYTES // 4, dtype=torch.int32, device=device)
    return int(numbers.sum()) == len(numbers) * (len(numbers) - 1) // 2


def _multiplies(device: "torch.device") -> bool:
    """Sums of products of small whole numbers are exact in float32 and TF32, in any order."""
    import torch

    row = torch.arange(_SIDE)
    left = ((7 * row[:, None] + 13 * row) % 17 - 8).float()
    right = ((11 * row[:, None] + 5 * row) % 13 - 6).float()
    return torch.equal((left.to(device) @ right.to(device)).cpu(), left @ right)


def ecc_errors(gpu: str) -> int | None:
    """Uncorrectable memory errors of a GPU since it was reset; None where nobody knows.

    Args:
        gpu: its UUID, as nvidia-smi writes it.
    """
    query = ("--query-gpu=ecc.errors.uncorrected.volatile.total", "--format=csv,noheader")
    command = ("nvidia-smi", *query, f"--id={gpu}")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT)
    except (OSError, subprocess.TimeoutExpired):
        return None
    text = done.stdout.strip()  # "[N/A]" without ECC
    return int(text) if done.returncode == 0 and text.isdecimal() else None


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
