"""Weights files: where torch.hub keeps them, and how they get there."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gol.errors import UserError
from gol.sources.download import Source, fetch

#: How a file is named in the place of a download, by the option of ``gol config``.
_NAMED = {
    "--weights": "`gol config EXPERIMENT --weights FILE` or gol.weights.file in a pipeline's set",
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
        weights: {file} for the user's own, or {url, sha256, bytes}, the last two optional, or
            {page, name} of a file that only people can get.
    """
    if weights.get("file"):
        return Path(weights["file"])
    return cache_path(weights["name"] if weights.get("page") else Source.of(weights).name)


def elsewhere(weights: Mapping[str, Any], option: str = "--weights") -> str:
    """What a person can do for a file of a key ``weights`` that is not there."""
    page = weights.get("page")
    place = f"it from {page}" if page else f"{Source.of(weights).urls[0]} elsewhere"
    return (
        f"get {place} and put it at {weights_path(weights)}, or name the file by {_NAMED[option]}"
    )


def fetch_weights(weights: Mapping[str, Any], option: str = "--weights") -> Path:
    """The file of a key ``weights``, fetched into the cache unless it is there.

    Args:
        weights: as for :func:`weights_path`.
        option: of ``gol config``, which names a file instead.

    Raises:
        UserError: no network, the file is not the published one, or it has no address.
    """
    path = weights_path(weights)
    if weights.get("file"):
        return path
    if weights.get("page"):
        if path.is_file():
            return path
        raise UserError(f"no file {path.name}, which has no address: {elsewhere(weights, option)}")
    try:
        return fetch(Source.of(weights), path)
    except UserError as error:
        raise UserError(f"{error}. Without network, {elsewhere(weights, option)}") from error
