"""The exceptions that the command line turns into text and an exit code."""

import re
from collections.abc import Mapping
from typing import Any

_SHOWN = 80  # characters of a value in a message


class UserError(Exception):
    """Bad input or a full disk: one line that names what is wrong and what is allowed."""


class LostJobError(UserError):
    """A process or its machine is gone, or the others did not come: trying again may help."""


class PeerError(UserError):
    """Another rank of the job failed; it is the one that says why on the command line."""


class JobFailed(Exception):
    """A job that failed as often as it may: why, and the last lines of its log; exit code 1."""


class Interrupted(Exception):
    """SIGUSR2 asked the work to stop; the same command continues it; exit code 75."""


def choices(names: object) -> str:
    """The allowed names as one readable phrase, for an error message."""
    return ", ".join(str(name) for name in names)  # type: ignore[attr-defined]


def pick(kind: str, name: Any, allowed: Mapping[str, Any]) -> Any:
    """The value of ``name``; a UserError lists the allowed names if there is none."""
    if not isinstance(name, str) or name not in allowed:
        raise UserError(f"unknown {kind} '{name}'; allowed: {choices(allowed)}")
    return allowed[name]


#: What a value must be, by the type of pydantic's complaint, whose context fills the braces.
_MUST_BE = {
    "greater_than_equal": "at least {ge}",
    "greater_than": "above {gt}",
    "string_type": "a text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "an object",
    "model_attributes_type": "an object",
    "too_short": "a list of at least {min_length}",
}


def explain_invalid(error: Any, label: str = "key '{}'") -> str:
    """The first problem of pydantic's ``ValidationError`` in one line.

    Args:
        error: the ``ValidationError``.
        label: what to call the value; the braces stand for its dotted name.
    """
    problem = error.errors(include_url=False)[0]
    kind, context, shown = problem["type"], problem.get("ctx", {}), repr(problem["input"])
    name = ".".join(map(str, problem["loc"]))
    shown = shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"
    if kind == "missing":
        return f"{label.format(name)} is missing"
    if kind == "extra_forbidden":
        return f"unknown {label.format(name)}"
    if kind == "literal_error":
        allowed = re.findall("'([^']*)'", context["expected"])
        return f"unknown {name} {shown}; allowed: {choices(allowed)}"
    said = str(context["error"]) if kind == "value_error" else problem["msg"]
    if kind in _MUST_BE:
        said = f"must be {_MUST_BE[kind].format_map(context)}, not {shown}"
    return f"{label.format(name)} {said}" if name else said
