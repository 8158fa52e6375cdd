"""The classification losses, in pure torch; mmdet knows them under these names."""

from gol.entry_points import Registry
from gol.losses.base import ClassificationLoss
from gol.losses.class_relative import ClassRelativeActivations
from gol.losses.droploss import DropLoss
from gol.losses.eql import EQL
from gol.losses.gumbel import GumbelCE, gumbel_cross_entropy

__all__ = [
    "EQL",
    "LOSSES",
    "ClassRelativeActivations",
    "ClassificationLoss",
    "DropLoss",
    "GumbelCE",
    "gumbel_cross_entropy",
]

#: Name, as used in configs, to class; other packages add theirs by entry points.
LOSSES = Registry(
    "gol.losses",
    {
        "GumbelCE": GumbelCE,
        "DropLoss": DropLoss,
        "EQL": EQL,
        "ClassRelativeActivations": ClassRelativeActivations,
    },
    ClassificationLoss,
)
