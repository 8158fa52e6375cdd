"""A config as a Python file of literals, for mmdet's own tools."""

import ast
from collections.abc import Mapping
from pprint import pformat
from typing import Any

from gol.errors import UserError


def python_text(values: Mapping[str, Any]) -> str:
    """A literal for each key; mmcv's ``Config.fromfile`` reads the same values from it.

    Args:
        values: plain content of a config.

    Raises:
        UserError: some of it cannot be written so that it is read back unchanged.
    """
    lines = (f"{key} = {pformat(value, sort_dicts=False)}" for key, value in values.items())
    # mmcv replaces what stands in double braces before it reads the file as Python.
    text = "\n".join(lines).replace("{{", r"{\x7b")
    if _read_back(text) != values:
        raise UserError("the config holds values that cannot be written as Python literals")
    return text


def _read_back(text: str) -> dict[str, Any] | None:
    """What the text assigns; None where it does anything else."""
    try:
        statements = ast.parse(text).body
        return {ast.unparse(s.targets[0]): ast.literal_eval(s.value) for s in statements}
    except (SyntaxError, ValueError, AttributeError):
        return None
