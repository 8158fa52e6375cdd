"""The backbones with published weights, fetched before anything trains."""

from pathlib import Path
from typing import Any

from gol.config.axes import axis_values
from gol.config.resolve import read_config
from gol.errors import pick
from gol.run_folder import RunFolder
from gol.sources.weights import fetch_weights


def backbone_weights() -> dict[str, dict[str, Any]]:
    """Name of every backbone with published weights to its key ``weights``."""
    values = axis_values("backbone")
    return {name: value["weights"] for name, value in values.items() if value.get("weights")}


def fetch_backbones(names: list[str]) -> list[Path]:
    """Fetches the weights of backbones into the cache, say on a cluster's login node.

    Raises:
        UserError: unknown name, or as :func:`fetch_weights`.
    """
    known = backbone_weights()
    return [fetch_weights(weights) for weights in [pick("backbone", n, known) for n in names]]


def fetch_for(run: RunFolder) -> None:
    """Fetches what the backbone of a run that is still to be trained begins with.

    Raises:
        UserError: the run has no config, or as :func:`fetch_weights`.
    """
    weights = read_config(run.path)["gol"].get("weights")
    if weights and not run.summary.exists():
        fetch_weights(weights)
