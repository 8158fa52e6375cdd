"""Checkpoints of other programs: their forms, their names for a model, values that are no weights.

A state dict is names to tensors; the *wanted* one is that of the model to be filled.
"""

import re
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gol.errors import UserError, visible
from gol.sources.forms import refuse_other_forms

State = Mapping[str, Any]


class StandIn:
    """Takes the place of an object that weights do not need; its class is not imported."""

    def __init__(self, *_: Any, **__: Any) -> None:
        """Takes whatever its class would."""

    def __setstate__(self, state: Any) -> None:
        """Forgets what the object held."""


#: What whole checkpoints of other programs hold beside tensors: arguments, settings, statistics.
_FORGOTTEN = (
    "argparse.Namespace",
    "mmengine.logging.history_buffer.HistoryBuffer",
    "pathlib.PosixPath",
    "pathlib.WindowsPath",
)
#: For ``torch.serialization.safe_globals``; NumPy's functions by the names of NumPy 1 and 2.
SAFE = [
    *((StandIn, name) for name in _FORGOTTEN),
    (OrderedDict, "yacs.config.CfgNode"),
    *(
        (getattr(np.core.multiarray, name), f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name in ("scalar", "_reconstruct")
    ),
]

#: Where a state dict may be, in the order of preference: the averaged weights (EMA) only if the
#: file has no others. In files of mmengine and mmcv the plain names hold the averaged ones.
_AVERAGED = ("ema_state_dict", "state_dict_ema", "model_ema")
_PLACES = ("state_dict", "model", "model_state_dict", "module", *_AVERAGED)
#: DataParallel and DistributedDataParallel, torch.compile, Lightning; the last is a detector's.
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.")


def refuse_other_files(path: Path) -> None:
    """Refuses a file that is no checkpoint of torch or safetensors, by the name of what it is.

    Raises:
        UserError: a web page, a Git LFS pointer, another archive, a program …
    """
    refuse_other_forms(path, "a checkpoint")
    names: list[str] = []
    with suppress(Exception), zipfile.ZipFile(path) as file:  # damage is named by its reader
        names = file.namelist()
    if any(name.endswith("/constants.pkl") for name in names):
        raise UserError(f"{path} is a TorchScript program: save the model's state_dict() instead")
    if names and not any(name.endswith("data.pkl") for name in names):
        raise UserError(f"{path} is a zip archive without a checkpoint: unpack it first")


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as safetensors does: eight bytes, and then JSON."""
    try:
        with open(path, "rb") as file:
            return file.read(10)[8:] in (b'{"', b"{}")
    except OSError:
        return False


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a safetensors file.

    Raises:
        UserError: it cannot be read or is damaged.
    """
    from safetensors.torch import load

    try:
        return load(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # SafetensorError, or what torch makes of an unknown dtype
        raise UserError(f"{path} is not an intact safetensors file: {error}") from error


def foreign_object(error: BaseException | None) -> str | None:
    """The class or function for whose sake ``torch.load`` refused a file."""
    found = re.search(r"GLOBAL ([\w.]+)", str(error))
    return found and found[1]


def find_state(content: dict[str, Any]) -> tuple[Any, str]:
    """The state dict within a checkpoint, and what is to be said of the choice, if anything."""
    places = [place for place in _PLACES if place in content]
    if not places:
        return content, ""
    note = f"the weights below '{places[0]}'" if len(places) > 1 or places[0] in _AVERAGED else ""
    others = [f"'{place}'" for place in places[1:]]
    return content[places[0]], note + (f", not {', '.join(others)}" if others else "")


def renamed(state: State, wanted: State) -> tuple[dict[str, Any], list[str]]:
    """A state dict with the model's names, and what was done to the file's.

    Prefixes of wrappers go if no name fits as it is, and with them what lies outside; mmcv's
    copies for averaging (``ema_backbone_conv1_weight``) go always.
    """
    copies = {f"ema_{name.replace('.', '_')}" for name in state} - wanted.keys()
    found = {name: value for name, value in state.items() if name not in copies}
    notes = []
    if len(found) < len(state):
        notes.append(f"without {len(state) - len(found)} copies for averaging (ema_…)")
    while not found.keys() & wanted.keys():
        prefix = next((p for p in _PREFIXES if any(name.startswith(p) for name in found)), None)
        if prefix is None:
            break
        notes.append(f"without the prefix '{prefix}'")
        if outside := [name for name in found if not name.startswith(prefix)]:
            notes[-1] += f", which {len(outside)} of {len(found)} lack: left out ({outside[0]} …)"
        found = {n.removeprefix(prefix): v for n, v in found.items() if n.startswith(prefix)}
    return found, notes


def check_values(path: Path, found: State, wanted: Mapping[str, torch.Tensor]) -> None:
    """Refuses the first tensor whose numbers cannot be a model's.

    Raises:
        UserError: NumPy's, quantised, sparse, without data, of integers, or not finite.
    """
    for name, value in found.items():
        if name in wanted and (problem := _problem(value, wanted[name])):
            raise UserError(f"{path}: {name} {problem}")


def _problem(value: Any, wanted: torch.Tensor) -> str | None:
    if isinstance(value, np.ndarray):
        return "is a NumPy array: save torch tensors"
    if not isinstance(value, torch.Tensor):
        return None  # the shapes' comparison names it
    if value.is_quantized or value.layout != torch.strided:
        kind = "quantised" if value.is_quantized else "sparse"
        return f"is {kind}: save the weights of the model that it was made of"
    if value.is_meta:
        return "is on the device meta, which holds no numbers: save the model's weights"
    if not wanted.is_floating_point():
        return None
    if not value.is_floating_point():
        return f"is {_dtype(value)}, the model has {_dtype(wanted)}"
    count = int((~value.float().isfinite()).sum())
    if count:
        numbers = f"{count} of its {value.numel()} numbers"
        return f"is not finite ({numbers} are NaN or infinite): did its training diverge?"
    return None


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def say(path: Path, notes: list[str]) -> None:
    """One line on stderr, of the first rank alone."""
    if notes:
        tell(visible(f"{path}: {'; '.join(notes)}"))


def tell(text: str) -> None:
    """Lines on stderr, of the first rank alone."""
    ranks = torch.distributed
    if not (ranks.is_available() and ranks.is_initialized() and ranks.get_rank()):
        print(visible(text, keep="\n"), file=sys.stderr, flush=True)
