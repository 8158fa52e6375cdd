"""Checkpoints: written atomically, read without unpickling code, pruned to the newest two.

The layout is mmcv's (``state_dict``, ``optimizer``, ``meta``), so stock mmdet reads ours.
"""

import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field

from gol.errors import UserError, validated
from gol.files import atomic_path
from gol.models.state import DamagedError, load_checkpoint

KEEP = 2
_NAME = re.compile(r"iteration_\d{8,}\.pth")


class _Form(BaseModel):
    model_config = ConfigDict(strict=True)


class _Meta(_Form):
    iter: int = Field(ge=0)
    fingerprint: str
    seconds: float
    started: float


class _Checkpoint(_Form):
    """What a training needs to go on."""

    state_dict: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    meta: _Meta


def save_checkpoint(path: str | Path, **content: Any) -> None:
    """Writes ``content`` to ``path`` atomically.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    # torch's own file writer answers a full disk with an internal error and keeps the file open.
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_path(path) as temporary:
        # Not getbuffer(): with an error in flight, Python 3.12.1 crashes on its view (gh-111049).
        temporary.write_bytes(buffer.getvalue())


def checkpoint_path(folder: Path, iteration: int) -> Path:
    """Name of the checkpoint after ``iteration`` iterations; sorts by iteration."""
    return folder / f"iteration_{iteration:08d}.pth"


def read_checkpoint(path: Path) -> dict[str, Any]:
    """A training's checkpoint: ``state_dict``, ``optimizer``, ``scaler`` and ``meta``.

    Raises:
        DamagedError: its content is not what was written.
        UserError: it cannot be read now, or is of another form.
    """
    content = load_checkpoint(path)
    text = f"{path} is not a checkpoint of `gol train`"
    done = validated(_Checkpoint, content, text).meta.iter
    if path != checkpoint_path(path.parent, done):
        raise UserError(f"{text}: its name says another number than its meta.iter, {done}")
    return content


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint; damaged ones are set aside, and the one before them is taken.

    Raises:
        UserError: one cannot be read now, which says nothing about its content, or is of another
            form.
    """
    damaged = 0
    for path in reversed(_found(folder)):
        try:
            return read_checkpoint(path)
        except DamagedError as error:
            damaged += 1
            aside = path.rename(path.with_name(f"{path.name}.damaged"))
            text = f"{error}; it is now {aside.name}, and the checkpoint before is taken"
            print(text, file=sys.stderr, flush=True)
    if damaged:
        print(f"{folder} has no other checkpoint: beginning anew", file=sys.stderr, flush=True)
    return None


def _found(folder: Path) -> list[Path]:
    """The checkpoints by iteration; unlike ``Path.glob`` it never passes over an error."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from error
    return [folder / name for name in sorted(names) if _NAME.fullmatch(name)]


def prune(folder: Path, newest: Path) -> None:
    """Removes what kills left behind, and the checkpoints before ``newest`` but the last of them.

    One of a later iteration stays: the training did not resume from it.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    for path in [path for path in _found(folder) if path <= newest][:-KEEP]:
        path.unlink(missing_ok=True)
