"""Labels, titles and notes are a person's text: as they are, whatever they are written into."""

import re
from collections.abc import Mapping
from typing import Any

from gol.errors import visible

_MARKUP = re.compile(r"[\\`*\[\]<|$~]|(?<!\w)_|_(?!\w)|&(?=#?\w+;)")
_TEX_NAMES = {"\\": "textbackslash", "~": "textasciitilde", "^": "textasciicircum"}
_TEX_NAMES |= {"<": "textless", ">": "textgreater"}
_FORMULA = ("=", "+", "-", "@")


def markdown(text: str) -> str:
    """The text in Markdown: no markup, HTML, formula or end of a table's cell.

    GitHub makes a link of a bare address all the same.
    """
    return _MARKUP.sub(r"\\\g<0>", visible(text))


def latex(text: str) -> str:
    """The text in LaTeX; at the beginning of a row it is no argument of the row before."""
    special = {char: rf"\{name}{{}}" for char, name in _TEX_NAMES.items()}
    special |= {char: rf"\{char}" for char in "&%$#_{}"}
    escaped = "".join(special.get(char, char) for char in visible(text))
    return f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped


def csv_cell(text: str) -> str:
    """The text in CSV, with the apostrophe that keeps spreadsheets from computing a formula."""
    shown = visible(text)
    return f"'{shown}" if shown.lstrip().startswith(_FORMULA) else shown


def figure(text: str) -> str:
    """The text in a figure of matplotlib's: no formula, and with a place in the legend."""
    shown = visible(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def html(template: str, content: Mapping[str, Any]) -> str:
    """A page of a template in this folder, in which every text is a text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("gol.results", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )
    return environment.get_template(template).render(content)
