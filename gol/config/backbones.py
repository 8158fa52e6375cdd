"""The backbones with published weights."""

from pathlib import Path
from typing import Any

from gol.config.axes import axis_values
from gol.errors import pick
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
