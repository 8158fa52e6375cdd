"""Checkpoints: written atomically, read without unpickling code, pruned to the newest two.

The layout is mmcv's (``state_dict``, ``optimizer``, ``meta``), so stock mmdet reads ours.
"""

import io
import sys
from pathlib import Path
from typing import Any

import torch

from gol.files import atomic_path
from gol.models.state import DamagedError, load_checkpoint

KEEP = 2


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


def newest_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint; a truncated one is removed, and the one before taken.

    Raises:
        UserError: one cannot be read now, which says nothing about its content.
    """
    for path in sorted(folder.glob("iteration_*.pth"), reverse=True):
        try:
            return load_checkpoint(path)
        except DamagedError as error:
            print(f"{error}; going back to the one before", file=sys.stderr, flush=True)
            path.unlink()
    return None


def prune(folder: Path, newest: Path) -> None:
    """Removes all but ``newest``, just written, and the one before, and what kills left behind.

    Those of later iterations are the unreadable ones that the training could not resume from.
    """
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)
    found = sorted(folder.glob("iteration_*.pth"))
    kept = [path for path in found if path <= newest][-KEEP:]
    for path in found:
        if path not in kept:
            path.unlink(missing_ok=True)
