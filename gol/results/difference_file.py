"""``differences.json``, as ``gol compare`` writes it, read by the report and by MLflow."""

from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from pydantic import ConfigDict, TypeAdapter

from gol.config.experiments import trained_as
from gol.config.model import Count, Model, Number, Text
from gol.errors import UserError
from gol.files import read_json


class Compared(Model):
    """A row in one metric, in percent points; what is None is so for the baseline.

    Attributes:
        experiment: the row's.
        scoring: activation that turned logits into scores.
        label: how tables call it.
        metric: AP, APr …
        seeds: how many it shares with the baseline.
        mean: the row's own.
        difference: from the baseline, paired by seed.
        difference_low: lower end of its 95 % interval.
        difference_high: upper end.
        p_corrected: for the number of rows.
        real: whether the difference is one.
    """

    model_config = ConfigDict(extra="ignore")

    experiment: Text
    scoring: Text
    label: Text
    metric: Text
    seeds: Count
    mean: Number
    difference: Number | None
    difference_low: Number | None
    difference_high: Number | None
    p_corrected: Number | None
    real: bool

    def is_of(self, experiments: Collection[str]) -> bool:
        """Whether it is one of some experiments, or one that only calibrates one of them."""
        with suppress(UserError):  # one of another version, or none
            return self.experiment in experiments or trained_as(self.experiment) in experiments
        return False


def read_differences(path: str | Path, experiments: Collection[str]) -> list[Compared]:
    """The rows of a ``differences.json``.

    Args:
        path: the file.
        experiments: the rows that it may be of, or the trainings of theirs.

    Raises:
        UserError: no such file, not one of ``gol compare``, or it compares others.
    """
    try:
        found = TypeAdapter(list[Compared]).validate_python(read_json(path))
    except ValueError as error:
        raise UserError(f"{path} is not a differences.json of `gol compare`") from error
    if others := [row.experiment for row in found if not row.is_of(experiments)]:
        raise UserError(f"{path} compares {others[0]}, which is none of the rows here")
    return found
