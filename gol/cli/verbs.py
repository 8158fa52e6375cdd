"""How a verb of `gol` is declared: a function, with its options beside it."""

import argparse
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import gol

_EXIT_CODES = """exit codes:
  0    done
  1    a check found problems, or a job failed
  2    bad input, named in one line
  75   interrupted by SIGUSR2: the same command continues
  130  interrupted by Ctrl-C
"""


@dataclass(frozen=True)
class Result:
    """What a verb has to say on stdout.

    Attributes:
        value: what ``--json`` prints.
        text: what is printed otherwise; empty if there is nothing, or nothing more, to say.
        code: exit code.
    """

    value: Any
    text: str = ""
    code: int = 0


@dataclass(frozen=True)
class Option:
    """One argument of a verb.

    Attributes:
        names: as for ``argparse.ArgumentParser.add_argument``.
        settings: its keyword arguments.
        complete: gives the words that the shell offers, called with keywords of argcomplete's;
            None: files.
    """

    names: tuple[str, ...]
    settings: dict[str, Any]
    complete: Callable[..., Iterable[str]] | None


_Action = Callable[..., Result | None]
_verbs: dict[str, tuple[_Action, tuple[Option, ...]]] = {}


def option(
    *names: str, complete: Callable[..., Iterable[str]] | None = None, **settings: Any
) -> Option:
    """An argument of a verb; see :class:`Option`."""
    return Option(names, settings, complete)


def verb(*options: Option) -> Callable[[_Action], _Action]:
    """Makes a verb of the decorated function.

    Its name is the verb's, its docstring the help. The options arrive as keyword arguments, except
    ``--json``, which is for :func:`gol.cli.main`.
    """

    def declare(action: _Action) -> _Action:
        _verbs[action.__name__] = action, options
        return action

    return declare


def build_parser() -> argparse.ArgumentParser:
    """The command line of all declared verbs.

    Besides the options it parses ``verb``, the verb's name or None, and with it ``action``, the
    function to call.
    """
    parser = _Parser(
        prog="gol",
        description="Gumbel Optimised Loss for long-tailed instance segmentation: each step of the"
        " pipeline as a command.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gol {gol.__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="verb", parser_class=_Parser)
    for name, (action, options) in _verbs.items():
        text = inspect.getdoc(action)
        sub = verbs.add_parser(name, help=text, description=text)
        sub.set_defaults(action=action)
        for each in options:
            added = sub.add_argument(*each.names, **each.settings)
            if each.complete is not None:  # where argcomplete looks for it
                added.completer = each.complete  # type: ignore[attr-defined]
    return parser


class _Parser(argparse.ArgumentParser):
    """Bad usage is one line too."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message}\n")


def whole(least: int) -> Callable[[str], int]:
    """The ``type`` of an option that takes a whole number, ``least`` or more."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} must be a whole number, {least} or more")
        return int(text)

    return convert


def positive(text: str) -> float:
    """The ``type`` of an option that takes a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} must be a number above 0")
    return value


def dataset_names(**keywords: Any) -> list[str]:
    """What the shell offers for a dataset: the names, and YAML files."""
    from argcomplete.completers import FilesCompleter

    from gol.config.axes import axis_values

    return [*axis_values("dataset"), *FilesCompleter(("yaml", "yml"))(**keywords)]


# Options of verbs in more than one module.
RUN = option("run", type=Path, help="run folder, prepared by `gol config`")
OUT = option("--out", type=Path, required=True, help="where to write")
STORE = option("--store", default="sqlite:///mlflow.db", help="MLflow store (default: mlflow.db)")
JSON = option("--json", dest="as_json", action="store_true", help="print the result as JSON")
