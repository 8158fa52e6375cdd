"""How a verb of `gol` is declared: a function, with its options beside it."""

import argparse
import inspect
import os
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


@dataclass(frozen=True)
class Verb:
    """A verb.

    Attributes:
        action: the function; its name is the verb's (import_ for ``import``), its docstring the
            help. The options arrive as keyword arguments, except ``--json``, which is for
            :func:`gol.cli.main`.
        options: what it takes.
        later: further options that cost an import; asked for when the verb is used.
        extra: the extra of the package that installs what the verb needs.
    """

    action: Callable[..., Result | None]
    options: tuple[Option, ...]
    later: Callable[[], Iterable[Option]]
    extra: str


#: All verbs by name, in the order in which they were declared.
VERBS: dict[str, Verb] = {}


def option(
    *names: str, complete: Callable[..., Iterable[str]] | None = None, **settings: Any
) -> Option:
    """An argument of a verb; see :class:`Option`."""
    return Option(names, settings, complete)


def verb(
    *options: Option, later: Callable[[], Iterable[Option]] = tuple, extra: str = "detection"
) -> Callable[[Callable], Callable]:
    """Makes a verb of the decorated function; see :class:`Verb`."""

    def declare(action: Callable) -> Callable:
        VERBS[action.__name__.rstrip("_")] = Verb(action, options, later, extra)
        return action

    return declare


def build_parser() -> argparse.ArgumentParser:
    """The command line of all verbs; what it parses holds the verb's name, or None, as ``verb``."""
    parser = _Parser(
        prog="gol",
        description="Gumbel Optimised Loss for long-tailed instance segmentation: each step of the"
        " pipeline as a command.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gol {gol.__version__}")
    parsers = parser.add_subparsers(dest="verb", metavar="verb", parser_class=_Parser)
    for name, declared in VERBS.items():
        text = inspect.getdoc(declared.action)
        sub = parsers.add_parser(name, help=text, description=text)
        sub.add_options(declared.options)
        sub.later = declared.later
    return parser


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and adds options that cost an import when it is used."""

    later: Callable[[], Iterable[Option]] = tuple

    def add_options(self, options: Iterable[Option]) -> None:
        """Adds arguments, and for argcomplete the words that it may offer."""
        for each in options:
            added = self.add_argument(*each.names, **each.settings)
            if each.complete is not None:
                added.completer = each.complete  # type: ignore[attr-defined]

    def parse_known_args(self, *args: Any, **kwargs: Any) -> Any:
        """As argparse does."""
        later, self.later = self.later, tuple
        self.add_options(later())
        return super().parse_known_args(*args, **kwargs)

    def error(self, message: str) -> NoReturn:
        """Ends the program."""
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

    from gol.config.datasets import shipped_datasets

    return [*shipped_datasets(), *FilesCompleter(("yaml", "yml"))(**keywords)]


def experiment_names(**_: Any) -> list[str]:
    """What the shell offers for an experiment."""
    from gol.config.experiments import experiments

    return experiments()


# Options of verbs in more than one module.
RUN = option("run", type=Path, help="run folder, prepared by `gol config`")
OUT = option("--out", type=Path, required=True, help="where to write")
STORE = option(
    "--store",
    default=os.environ.get("MLFLOW_TRACKING_URI") or "sqlite:///mlflow.db",
    help="MLflow store (default: MLFLOW_TRACKING_URI, else mlflow.db)",
)
JSON = option("--json", dest="as_json", action="store_true", help="print the result as JSON")
