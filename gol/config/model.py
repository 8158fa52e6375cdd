"""What the models of files have in common: strict types, no unknown keys, no changes later."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WrapValidator


class Model(BaseModel):
    """A part of a file whose keys and types are all known; read with ``gol.errors.validated``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def _as_written(value: Any, check: ValidatorFunctionWrapHandler) -> Any:
    """The value itself, since 0 and 0.0 are two texts in JSON and so two fingerprints."""
    check(value)
    return value


#: A finite number, whole or not, kept as it was written.
Number = Annotated[float, Field(allow_inf_nan=False), WrapValidator(_as_written)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False), WrapValidator(_as_written)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False), WrapValidator(_as_written)]
Natural = Annotated[int, Field(ge=0, le=2**31 - 1)]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]
Text = Annotated[str, Field(min_length=1)]
