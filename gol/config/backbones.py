"""Published weights, of backbones and of whole detectors, fetched before anything trains."""

from pathlib import Path
from typing import Any

from gol.config.axes import axis_values
from gol.config.resolve import read_config
from gol.errors import pick
from gol.run_folder import RunFolder
from gol.sources.weights import fetch_weights


def published_weights() -> dict[str, dict[str, Any]]:
    """Name of every backbone with published weights, or value of init, to where they are."""
    backbones = {name: value.get("weights") for name, value in axis_values("backbone").items()}
    found = {**backbones, **axis_values("init")}
    return {name: weights for name, weights in found.items() if weights}


def fetch_published(names: list[str]) -> list[Path]:
    """Fetches published weights into the cache, say on a cluster's login node.

    Raises:
        UserError: unknown name, or as :func:`fetch_weights`.
    """
    known, inits = published_weights(), axis_values("init")
    wanted = [(pick("weights", n, known), "--init" if n in inits else "--weights") for n in names]
    return [fetch_weights(weights, option) for weights, option in wanted]


def fetch_for(run: RunFolder) -> None:
    """Fetches what a run that is still to be trained begins with: a backbone, or all of it.

    Raises:
        UserError: the run has no config, or as :func:`fetch_weights`.
    """
    if run.summary.exists():
        return
    own = read_config(run.path)["gol"]
    for key in ("weights", "init"):
        if own.get(key):
            fetch_weights(own[key], f"--{key}")
