"""The axis ``precision``: autocast's dtype, and how images and weights lie in memory.

``auto`` is settled on the device on which a training begins. The choice is kept in its checkpoints
and weights, so that neither a resumed training nor a detection changes it on another device.
"""

import re
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gol.config.own import Own
from gol.engine.checkpoints import newest_checkpoint
from gol.engine.distributed import Ranks
from gol.errors import UserError, choices, shown
from gol.run_folder import RunFolder

_DTYPES = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
_CHANNELS_LAST = "_channels_last"
_FAST, _SAFE = f"bfloat16{_CHANNELS_LAST}", "float32"


@dataclass(frozen=True)
class Precision:
    """What a detector computes in.

    Attributes:
        name: the dtype, and ``_channels_last`` where images and weights lie in that order.
        kept: whether ``auto`` chose it, so that checkpoints and summaries must say it.
    """

    name: str = _SAFE
    kept: bool = False

    @property
    def dtype(self) -> torch.dtype | None:
        """Autocast's; None: no autocast."""
        return _DTYPES[self.name.removesuffix(_CHANNELS_LAST)]

    @property
    def memory_format(self) -> torch.memory_format:
        """Of images and weights."""
        last = self.name.endswith(_CHANNELS_LAST)
        return torch.channels_last if last else torch.preserve_format

    @property
    def record(self) -> dict[str, str]:
        """What a checkpoint's ``meta`` and a summary have to say of it."""
        return {"precision": self.name} if self.kept else {}

    def autocast(self, device: torch.device) -> AbstractContextManager:
        """The context of a forward pass."""
        return torch.autocast(device.type, self.dtype) if self.dtype else nullcontext()

    def prepare(self, detector: torch.nn.Module) -> torch.nn.Module:
        """A detector whose weights lie in this order and whose heads answer in float32."""
        from gol.models import float32_heads

        if self.dtype:
            float32_heads(detector)
        return detector.to(memory_format=self.memory_format)


def find_precision(
    own: Own, device: torch.device, meta: Mapping[str, Any] | None = None
) -> Precision:
    """The precision of a run on a device; ``auto`` is what ``meta`` says, or what suits the device.

    Args:
        own: the resolved config's key ``gol``.
        device: where it is to run.
        meta: of a checkpoint or of weights of the run.

    Raises:
        UserError: the meta names a precision that ``auto`` never chooses.
    """
    if own.precision != "auto":
        return Precision(f"{own.precision}{_CHANNELS_LAST if own.memory_format else ''}")
    suits = _FAST if is_fast(device) else _SAFE
    name = (meta or {}).get("precision", suits)
    if name not in (_FAST, _SAFE):
        allowed = choices([_FAST, _SAFE])
        raise UserError(f"a checkpoint's precision is {shown(name)}; allowed: {allowed}")
    return Precision(name, kept=True)


def training_precision(own: Own, ranks: Ranks, run: RunFolder) -> Precision:
    """The precision of a training that begins or continues, the same on all ranks.

    Rank 0 says on stderr what ``auto`` is.
    """
    if own.precision != "auto":
        return find_precision(own, ranks.device)
    found = None
    if ranks.is_main:
        checkpoint = newest_checkpoint(run.checkpoints)
        suits = find_precision(own, ranks.device)
        found = find_precision(own, ranks.device, checkpoint and checkpoint["meta"])
        text = f"precision auto: {found.name} on {ranks.device}"
        if checkpoint:
            text += ", as the training began"
            text += "" if found == suits else f" (a new one would take {suits.name} here)"
        print(text, file=sys.stderr, flush=True)
    return ranks.broadcast(found)


def is_fast(device: torch.device) -> bool:
    """Whether bfloat16 is the fast way: on CUDA from Ampere on, and on CPUs with AMX."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    try:
        return bool(re.search(r"\bamx_bf16\b", Path("/proc/cpuinfo").read_text()))
    except OSError:  # not Linux
        return False
