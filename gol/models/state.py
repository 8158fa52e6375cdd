"""State dicts and checkpoints, read without unpickling code and matched name by name."""

import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch

from gol.errors import UserError
from gol.models import foreign
from gol.models.records import check_records


class DamagedError(UserError):
    """A file that was read to its end and does not hold what was written."""


_SHOWN = 20  # problems of names and shapes in a message
# mmcv's `meta` may hold numpy numbers and arrays, say the best score: data, no code.
_NUMPY = [np.core.multiarray.scalar, np.core.multiarray._reconstruct, np.dtype, np.ndarray]
_NUMPY += [type(np.dtype(code)) for code in np.typecodes["AllInteger"] + "?efd"]


def load_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a checkpoint onto the CPU; tensors, numbers and plain values only, never code.

    Raises:
        DamagedError: its checksums do not fit, or it has none and cannot be decoded.
        UserError: it cannot be read now, or holds anything else.
    """
    intact = None
    try:
        file = Path(path).read_bytes()  # at once: what fails from here on is not the reading
        intact = check_records(file)
        with torch.serialization.safe_globals(_NUMPY):
            content = torch.load(BytesIO(file), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a damaged file
        raise _refusal(path, error, intact) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    return content


def _refusal(path: str | Path, error: Exception, intact: bool | None) -> UserError:
    """Why a checkpoint is not read; ``intact``: what its checksums say, None if they do not fit."""
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if isinstance(error, OSError):
        return UserError(f"cannot read {path}: {error.strerror or error}")
    if isinstance(error, MemoryError) or "allocate memory" in reason:  # torch's RuntimeError
        return UserError(f"{path} does not fit into memory")
    # The directory has fields that torch looks at and our check does not.
    if intact is None or "PytorchStreamReader" in reason:
        return DamagedError(f"{path} is damaged or truncated: {reason}")
    text = f"{path} is not a checkpoint of tensors: {reason}"
    return UserError(text) if intact else DamagedError(text)


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
        with torch.serialization.safe_globals(foreign.SAFE), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, of forms that are refused by name
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
) -> dict[str, Any]:
    """Loads a checkpoint's ``state_dict`` strictly, whether we wrote it or mmcv did.

    Returns:
        The checkpoint's ``meta``.

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
    return meta


def mismatches(found: Mapping[str, Any], wanted: Mapping[str, torch.Tensor]) -> list[str]:
    """What keeps one state dict from replacing another: names and shapes that differ."""
    problems = [f"missing {key}" for key in wanted if key not in found]
    problems += [f"unexpected {key}" for key in found if key not in wanted]
    for key in wanted:  # in the model's order, so that the message is the same each time
        if key not in found:
            continue
        value = found[key]
        shape = getattr(value, "shape", None)
        if shape != wanted[key].shape:
            shape = type(value).__name__ if shape is None else tuple(shape)
            problems.append(f"{key} is {shape}, the model has {tuple(wanted[key].shape)}")
        elif not _is_plain(value):
            problems.append(f"{key} is quantised, sparse or not a tensor")
    return problems


def _is_plain(value: Any) -> bool:
    """Whether a value is a tensor that another one's numbers can be replaced by."""
    plain = isinstance(value, torch.Tensor) and value.layout == torch.strided
    return plain and not value.is_quantized


def listing(problems: list[str]) -> str:
    """Problems as one phrase that still fits on a screen."""
    more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
    return "; ".join(problems[:_SHOWN]) + more
