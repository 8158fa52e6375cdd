"""Gumbel Optimised Loss for long-tailed instance segmentation (ECCV 2022).

Importing the package loads nothing else: each public name is imported when it is first used, and
``gumbel_cross_entropy``, ``losses`` and ``activations`` need only torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gol import activations, losses
    from gol.config.experiments import experiments
    from gol.config.resolve import load_experiment
    from gol.engine.predict import load_detector
    from gol.losses import gumbel_cross_entropy
    from gol.models import build_detector

__version__ = "0.9.0"
__all__ = [
    "activations",
    "build_detector",
    "experiments",
    "gumbel_cross_entropy",
    "load_detector",
    "load_experiment",
    "losses",
]

#: Public name to the module that defines it; "" for a module of the package.
_HOME = {
    "activations": "",
    "build_detector": "gol.models",
    "experiments": "gol.config.experiments",
    "gumbel_cross_entropy": "gol.losses",
    "load_detector": "gol.engine.predict",
    "load_experiment": "gol.config.resolve",
    "losses": "",
}


def __getattr__(name: str) -> Any:
    """Imports a public name on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'gol' has no attribute {name!r}")
    home = _HOME[name]
    return getattr(import_module(home), name) if home else import_module(f"gol.{name}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
