"""State dicts and checkpoints, read without unpickling code and matched name by name."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gol.errors import UserError
from gol.models import foreign


class DamagedError(UserError):
    """A file that can be read but holds no checkpoint."""


_SHOWN = 20  # problems of names and shapes in a message
# mmcv's `meta` may hold numpy numbers and arrays, say the best score: data, no code.
_NUMPY = [np.core.multiarray.scalar, np.core.multiarray._reconstruct, np.dtype, np.ndarray]
_NUMPY += [type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efd"]


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU; tensors, numbers and plain values only, never code.

    Raises:
        UserError: the file is missing, truncated, or holds anything else.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except MemoryError as error:
        raise UserError(f"{path} does not fit into memory") from error
    except Exception as error:  # torch raises half a dozen types for a damaged file
        reason = str(error).splitlines()[0]
        raise DamagedError(
            f"{path} is not a checkpoint of tensors (truncated?): {reason}"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def load_state(
    path: str | Path, wanted: Mapping[str, torch.Tensor] | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A checkpoint's state dict, ours or another program's, and its ``meta``.

    Args:
        path: file of torch, bare or below ``state_dict``, ``model`` …, or of safetensors.
        wanted: the model's state dict; the names are made to fit it, as far as prefixes are all
            that differs, and stderr says what was done.

    Raises:
        UserError: as :func:`load_checkpoint`, the file is of another kind, or one of the two is of
            another type.
    """
    path = Path(path)
    content = _read(path)
    (state, note), meta = foreign.find_state(content), content.get("meta")
    if not (isinstance(state, dict) and all(isinstance(key, str) for key in state)):
        raise UserError(f"{path} holds no state dict, which is names to tensors")
    if not isinstance(meta, dict | None):
        raise UserError(f"{path}: its meta is a {type(meta).__name__}, not a dict")
    if wanted is not None:
        state, notes = foreign.renamed(state, wanted)
        foreign.say(path, [note, *notes] if note else notes)
    return state, meta or {}


def _read(path: Path) -> dict[str, Any]:
    if foreign.is_safetensors(path):
        return foreign.read_safetensors(path)
    try:
        with torch.serialization.safe_globals(foreign.SAFE):
            return load_checkpoint(path)
    except UserError as error:
        foreign.refuse_other_files(path)  # what it is says more than what torch stumbled over
        name = foreign.foreign_object(error.__cause__)
        if name is None:
            raise
        reason = f"it holds {name}, which may run code; save the model's state_dict() alone"
        raise UserError(f"{path} is not a checkpoint of tensors: {reason}") from error


def load_weights(
    detector: torch.nn.Module, path: str | Path, fingerprint: str | None = None
) -> None:
    """Loads a checkpoint's ``state_dict`` strictly, whether we wrote it or mmcv did.

    Raises:
        UserError: the checkpoint is of another training than ``fingerprint``, or a tensor is
            missing, unexpected, of another shape, for instance for want of a class, or not finite.
    """
    wanted = detector.state_dict()
    found, meta = load_state(path, wanted)
    if fingerprint and meta.get("fingerprint") != fingerprint:
        raise UserError(f"{path} was trained with another configuration or other annotations")
    # mmcv also saves buffers that torch calls not persistent, such as a loss's class frequencies.
    derived = {name for name, _ in detector.named_buffers()} - wanted.keys()
    found = {key: value for key, value in found.items() if key not in derived}
    foreign.check_values(path, found, wanted)
    problems = mismatches(found, wanted)
    if problems:
        raise UserError(f"{path} does not fit the model: {listing(problems)}")
    detector.load_state_dict(found)


def mismatches(found: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> list[str]:
    """What keeps one state dict from replacing another: names and shapes that differ."""
    problems = [f"missing {key}" for key in wanted if key not in found]
    problems += [f"unexpected {key}" for key in found if key not in wanted]
    for key in wanted.keys() & found.keys():
        shape = getattr(found[key], "shape", None)
        if shape != wanted[key].shape:
            shape = type(found[key]).__name__ if shape is None else tuple(shape)
            problems.append(f"{key} is {shape}, the model has {tuple(wanted[key].shape)}")
    return problems


def listing(problems: list[str]) -> str:
    """Problems as one phrase that still fits on a screen."""
    more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more
