"""Weights files: found in torch.hub's cache, or fetched into it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gol.errors import UserError
from gol.sources.download import Source, fetch


def cache_path(name: str) -> Path:
    """Where torch.hub keeps a file, so that what other tools fetched is used (``TORCH_HOME``)."""
    import torch

    return Path(torch.hub.get_dir()) / "checkpoints" / name


def fetch_weights(weights: Mapping[str, Any]) -> Path:
    """The file of a key ``weights``, fetched into the cache unless it is there.

    Args:
        weights: {file} for a file of one's own, or {url, sha256, bytes}, the latter two optional.

    Raises:
        UserError: offline, or the file is not the published one.
    """
    if "file" in weights:
        return Path(weights["file"])
    source = Source.of(weights)
    path = cache_path(source.name)
    try:
        return fetch(source, path)
    except UserError as error:
        raise UserError(
            f"{error}. Without network, get {source.urls[0]} elsewhere and put it at {path}, or"
            " name the file by `gol config --weights FILE`"
        ) from error
