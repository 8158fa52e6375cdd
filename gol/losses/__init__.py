"""The classification losses, in pure torch; mmdet knows them under these names."""

from gol.entry_points import Registry
from gol.losses.adaptive import AdaptiveCE
from gol.losses.balanced import Balanced
from gol.losses.base import ClassificationLoss
from gol.losses.class_balanced import ClassBalanced
from gol.losses.class_relative import ClassRelativeActivations
from gol.losses.droploss import DropLoss
from gol.losses.ecm import ECM
from gol.losses.eql import EQL
from gol.losses.eqlv2 import EQLv2
from gol.losses.federated import Federated
from gol.losses.focal import Focal
from gol.losses.gumbel import GumbelCE, gumbel_cross_entropy
from gol.losses.iif import IIF
from gol.losses.seesaw import Seesaw

__all__ = [
    "ECM",
    "EQL",
    "IIF",
    "LOSSES",
    "AdaptiveCE",
    "Balanced",
    "ClassBalanced",
    "ClassRelativeActivations",
    "ClassificationLoss",
    "DropLoss",
    "EQLv2",
    "Federated",
    "Focal",
    "GumbelCE",
    "Seesaw",
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
        "Seesaw": Seesaw,
        "EQLv2": EQLv2,
        "Federated": Federated,
        "Balanced": Balanced,
        "ECM": ECM,
        "Focal": Focal,
        "ClassBalanced": ClassBalanced,
        "IIF": IIF,
        "AdaptiveCE": AdaptiveCE,
    },
    ClassificationLoss,
)
