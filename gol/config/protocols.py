"""The protocols beside the official one, which ``gol.evaluation`` has a module of each name for."""

from typing import NamedTuple

PER_CLASS = 10_000  # as Dave et al. chose for the 19,809 images of LVIS v1 val


class Protocol(NamedTuple):
    """What can be asked for by name.

    Attributes:
        columns: what tables show: head to row (empty: the first) and column of the scores.
        per_class: whether it takes the best detections of each class over all images, which need
            a detection of their own, in the place of the best of each image.
    """

    columns: dict[str, tuple[str, str]]
    per_class: bool = False


PROTOCOLS = {
    "fixed": Protocol({"AP-fixed": ("", "AP"), "APr-fixed": ("", "APr")}, per_class=True),
    "pool": Protocol({"AP-pool": ("all", "AP"), "APr-pool": ("r", "AP")}, per_class=True),
    "boundary": Protocol({"AP-boundary": ("", "AP"), "APr-boundary": ("", "APr")}),
    "tide": Protocol({"TIDE Cls": ("cost", "Cls"), "TIDE Miss": ("cost", "Miss")}),
    "olrp": Protocol({"oLRP": ("all", "oLRP"), "oLRPr": ("r", "oLRP")}),
    "calibration": Protocol({"ECE": ("all", "ECE"), "ECEr": ("r", "ECE")}),
}
