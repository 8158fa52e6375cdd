"""What the site takes from the code: figures, experiments, the verbs' help; and its equations."""

import os
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import latex2mathml.converter
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from gol.cli.overview import experiments
from gol.cli.verbs import VERBS, build_parser
from gol.results.figures import loss_gradients

_ROOT = Path(__file__).resolve().parent.parent
_RESULTS = "workflow/report"  # as the pages, which are read on a repository's page too, link to it
_MATH = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"^<!-- (\w+) -->$", re.MULTILINE)
_ROLE = re.compile(r":(?:func|class|meth|data|mod):(?=<code>)")  # Sphinx's, in docstrings
_WIDTH = "88"  # characters of a help text


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the figures: of the method, drawn now, and of the demo's last results."""
    for path in sorted((_ROOT / _RESULTS).glob("*.png")):
        files.append(File.generated(config, f"figures/{path.name}", abs_src_path=str(path)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "loss_gradients.png"
        loss_gradients(path)
        if (old := files.get_file_from_path(f"figures/{path.name}")) is not None:
            files.remove(old)
        drawn = File.generated(config, f"figures/{path.name}", content=path.read_bytes())
    files.append(drawn)
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fills in ``<!-- experiments -->`` and its like; makes MathML of TeX."""
    makers: dict[str, Callable[[], str]] = {
        "experiments": _experiments,
        "verbs": _verbs,
        "lab": _lab,
    }
    markdown = markdown.replace(f"](../{_RESULTS}/", "](figures/")
    markdown = _TABLE.sub(lambda found: makers[found[1]](), markdown)
    return _MATH.sub(lambda found: _equation(found[1]), markdown)


def on_page_content(html: str, **_: Any) -> str:
    """Leaves only the name of what a docstring refers to."""
    return _ROLE.sub("", html)


def _equation(tex: str) -> str:
    mathml = latex2mathml.converter.convert(tex.strip(), display="block")
    return f'<div class="math">{mathml}</div>'


def _experiments() -> str:
    """Each experiment with the axes in which it differs from the first one of the paper."""
    entries = experiments().value
    plain = next(e["axes"] for e in entries if e["name"] == "activations/r50_4x4_1x")
    lines = ["| name | label | axes | AP | APr |", "|---|---|---|---|---|"]
    for entry in entries:
        own = (
            f"{k} {v}" for k, v in entry["axes"].items() if v != plain.get(k) or k == "classifier"
        )
        published = entry["published"] or {}
        scores = (str(published.get(metric, "")) for metric in ("AP", "APr"))
        cells = (f"`{entry['name']}`", entry["label"], ", ".join(own), *scores)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _lab() -> str:
    """What ``make lab`` left of its finished runs."""
    path = _ROOT / _RESULTS / "lab.md"
    if not path.is_file():
        return "!!! note\n    Not measured yet: `make lab` fills this in."
    text = path.read_text("utf-8").replace("\n## ", "\n### ")  # below this page's own
    # Python-Markdown knows no escaped "<"; intervals stay on one line.
    text = text.replace("\\<", "&lt;").replace(" … ", "\u00a0…\u00a0")
    return f"![Differences from the baseline](figures/lab.png)\n\n{text}"


def _verbs() -> str:
    """What ``gol VERB --help`` prints, verb by verb."""
    width = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        parsers = build_parser()._subparsers._group_actions[0].choices
        parts = []
        for verb in VERBS:
            parsers[verb].add_options(parsers[verb].later())
            parts.append(f"## gol {verb}\n\n```text\n{parsers[verb].format_help()}```\n")
    finally:
        os.environ.pop("COLUMNS")
        if width is not None:
            os.environ["COLUMNS"] = width
    return "\n".join(parts)
