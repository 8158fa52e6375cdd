"""Experiments: the entries of ``configs/experiments.yaml``, and rows that a pipeline makes of them.

``NAME@ROW`` is the experiment NAME as a row of its own: a pipeline file may change single values of
it, and its runs and results stay apart from those of NAME.
"""

from functools import cache
from typing import Self

from gol.config.axes import Axes
from gol.config.model import Model, Number, Text
from gol.errors import UserError, pick, validated
from gol.files import configs_folder, read_yaml


class Experiment(Model):
    """An experiment.

    Attributes:
        label: what tables and legends call it.
        axes: one value for each axis.
        compare: the experiment that the published numbers are for, if it is another one; itself
            where they are of another recipe.
        published: metric to the published value in percent points.
        published_note: what to know about these.
    """

    label: Text
    axes: Axes
    compare: Text | None = None
    published: dict[str, Number] | None = None
    published_note: Text | None = None

    def row(self, name: str) -> Self:
        """The same as a row of its own, beside which no published numbers stand."""
        nothing = dict.fromkeys(("compare", "published", "published_note"))
        return self.model_copy(update={**nothing, "label": f"{self.label}, {name}"})


@cache
def _table() -> dict[str, Experiment]:
    path = configs_folder() / "experiments.yaml"
    found = {
        name: validated(Experiment, entry, str(path), str(name))
        for name, entry in read_yaml(path).items()
    }
    for name, entry in found.items():
        if entry.compare:
            other = pick("experiment", entry.compare, found)
            numbers = {"published": other.published, "published_note": other.published_note}
            found[name] = entry.model_copy(update=numbers)
    return found


def experiments() -> list[str]:
    """Names of all experiments, in the order of ``configs/experiments.yaml``."""
    return list(_table())


def experiment(name: str) -> Experiment:
    """An experiment by its name, or a row ``NAME@ROW`` of one.

    Raises:
        UserError: there is no experiment of this name.
    """
    base, at, row = name.partition("@") if isinstance(name, str) else (name, "", "")
    if at and not row:
        raise UserError(f"experiment '{name}': expected NAME@ROW, or NAME alone")
    found = pick("experiment", base, _table())
    return found.row(row) if row else found


def trained_as(name: str) -> str:
    """The experiment whose runs serve one with a calibration, which needs no training of its own.

    That is the one with the same values of all other axes, and of a row the row of the same name
    of that one; without such a one, and for others than calibrated experiments, ``name`` itself.

    Raises:
        UserError: as :func:`experiment`.
    """
    axes = experiment(name).axes
    if axes.calibration == "none":
        return name
    _, at, row = name.partition("@")
    plain = axes.model_copy(update={"calibration": "none"})
    found = (other for other, entry in _table().items() if entry.axes == plain)
    return next((f"{other}{at}{row}" for other in found), name)


def calibrated_as(name: str, method: str) -> str | None:
    """The experiment that a calibration makes of another one; None if the list has none."""
    base, at, row = name.partition("@")
    for other, entry in _table().items():
        if entry.axes.calibration == method != "none" and trained_as(other) == base:
            return f"{other}{at}{row}"
    return None
