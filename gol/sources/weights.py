"""Weights files: where torch.hub keeps them, and how they get there."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gol.errors import UserError
from gol.sources.download import Source, fetch

#: How a file is named in the place of a download, by the option of ``gol config``.
_NAMED = {
    "--weights": "`gol config EXPERIMENT --weights FILE`",
    "--init": "`gol config EXPERIMENT --init FILE` or the key init of the pipeline file",
}


def cache_path(name: str) -> Path:
    """Where torch.hub keeps a file, so that what other tools fetched is used (``TORCH_HOME``)."""
    # torch.hub.get_dir(), for programs that need not wait for torch.
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    home = Path(os.environ.get("TORCH_HOME", f"{cache}/torch")).expanduser()
    return home / "hub" / "checkpoints" / name


def weights_path(weights: Mapping[str, Any]) -> Path:
    """The file of a key ``weights``, whether or not it is there.

    Args:
        weights: {file} for the user's own, or {url, sha256, bytes}, the last two optional.
    """
    return Path(weights["file"]) if weights.get("file") else cache_path(Source.of(weights).name)


def fetch_weights(weights: Mapping[str, Any], option: str = "--weights") -> Path:
    """The file of a key ``weights``, fetched into the cache unless it is there.

    Args:
        weights: as for :func:`weights_path`.
        option: of ``gol config``, which names a file instead.

    Raises:
        UserError: no network, or the file is not the published one.
    """
    path = weights_path(weights)
    if weights.get("file"):
        return path
    source = Source.of(weights)
    try:
        return fetch(source, path)
    except UserError as error:
        raise UserError(
            f"{error}. Without network, get {source.urls[0]} elsewhere and put it at {path}, or"
            f" name the file by {_NAMED[option]}"
        ) from error
