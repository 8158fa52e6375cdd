"""Calibrations: scores that make up for the long tail after training, in pure torch and NumPy."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from gol.calibration.base import Known, Score, SenselessError
from gol.calibration.fracal import fracal
from gol.calibration.fractal import fractal_dimension, fractal_dimensions
from gol.calibration.logit_adjust import logit_adjust
from gol.calibration.logn import logn
from gol.calibration.none import none
from gol.calibration.norcal import norcal
from gol.errors import UserError, pick

__all__ = [
    "CALIBRATIONS",
    "Calibration",
    "Known",
    "Score",
    "SenselessError",
    "calibration",
    "fracal",
    "fractal_dimension",
    "fractal_dimensions",
    "logit_adjust",
    "logn",
    "none",
    "norcal",
]


@dataclass(frozen=True)
class Calibration:
    """One method.

    Attributes:
        title: what tables call it.
        function: logits (N, K), score, known, strength to scores (N, C + 1).
        parameter: what its publication calls the strength; None: it has none.
        default: the strength, unless another is given.
        most: the largest that makes sense; the smallest is 0.
    """

    title: str
    function: Callable[[Tensor, Score, Known, float], Tensor]
    parameter: str | None = None
    default: float = 0.0
    most: float = 0.0

    def strength(self, name: str | None, value: float | None) -> float:
        """The strength to use.

        Args:
            name: of the parameter that ``value`` was given for.
            value: None takes the default.

        Raises:
            UserError: the method has no such parameter, or it is out of range.
        """
        if value is None:
            return self.default
        if name != self.parameter:
            allowed = f"allowed: {self.parameter}" if self.parameter else "it has no parameter"
            raise UserError(f"{self.title} has no {name}; {allowed}")
        if not 0 <= value <= self.most:  # NaN too
            raise UserError(f"{name} is {value}; allowed: numbers from 0 to {self.most:g}")
        return value


#: Name, as used in configs, to method.
CALIBRATIONS = {
    "none": Calibration("not calibrated", none),
    "norcal": Calibration("NorCal", norcal, "gamma", 0.5, 2.0),
    "logit_adjust": Calibration("logit adjustment", logit_adjust, "tau", 1.0, 2.0),
    "fracal": Calibration("FRACAL", fracal, "lambda", 2.0, 8.0),
    "logn": Calibration("LogN", logn),
}


def calibration(name: str) -> Calibration:
    """A method by its name.

    Raises:
        UserError: there is none of that name.
    """
    return pick("calibration", name, CALIBRATIONS)
