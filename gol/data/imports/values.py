"""Values as labelling tools write them: numbers in quotes, 3.0 for 3, "true" for 1, NaN."""

import re
from typing import Any

_WHOLE = re.compile(r"\s*([+-]?\d{1,19})(?:\.0*)?\s*")
_MOST = 2**53  # beyond, sums and areas lose digits or overflow
_TRUE, _FALSE = {"true", "yes", "1"}, {"false", "no", "0", "", "none", "null"}


def whole(value: Any) -> int | None:
    """A whole number of 64 bits, also from 3.0 and "3"; None for everything else."""
    if isinstance(value, str):
        digits = _WHOLE.fullmatch(value)
        value = int(digits[1]) if digits else None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if type(value) is int and -(2**63) <= value < 2**63 else None


def id_key(value: Any) -> int | str | None:
    """An id as something that is equal for 3, 3.0 and "3"; None if it is missing."""
    if value is None or value != value:
        return None
    found = whole(value)
    return str(value) if found is None else found


def plain_name(name: str) -> str:
    """A class's name in small letters, with one space for what may stand between words."""
    return " ".join(re.split(r"[\s_-]+", name.casefold().strip()))


def number(value: Any) -> int | float | None:
    """A number that may be of pixels, also from a text; None for all else, NaN and true too."""
    try:
        value = float(value) if isinstance(value, str) else value
    except ValueError:
        return None
    fits = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _MOST
    return value if fits else None


def numbers(values: Any) -> list[int | float] | None:
    """A list of such numbers; None if it is not a list, or one of them is none."""
    if not isinstance(values, list | tuple):
        return None
    read = [number(value) for value in values]
    return None if None in read else read  # type: ignore[return-value]


def flag(value: Any) -> bool | None:
    """Whether a flag is set; a missing one (None, NaN) is not; None if it is something else."""
    if isinstance(value, str):
        text = value.strip().lower()
        return True if text in _TRUE else False if text in _FALSE else None
    if value is None or value != value:
        return False
    return bool(value) if value in (0, 1) else None
