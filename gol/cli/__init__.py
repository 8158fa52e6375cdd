# PYTHON_ARGCOMPLETE_OK
"""The command line: `gol <verb>` for each step of the pipeline, to be run by hand or by Snakemake.

A verb is a function with its options beside it, in one of the modules that are imported here. It
imports what it needs when it is run: `gol --help` imports nothing but Python's own library.
"""

import json
import os
import re
import sys
from contextlib import nullcontext, redirect_stdout
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from gol.cli.termination import tidy_termination
from gol.cli.verbs import VERBS, Verb, build_parser
from gol.cluster.home import supply_home
from gol.errors import Interrupted, JobFailed, PeerError, UserError, one_line, visible

# They declare the verbs, in the order of the help.
from gol.cli import overview, imports, prepare, jobs, pictures, results  # noqa: F401  # isort: skip

_LAYOUT = "\n\t"  # of our own texts


def main(arguments: list[str] | None = None) -> int:
    """Runs one verb; returns the exit code that the help lists, after one line about a failure."""
    parser = build_parser()
    if "_ARGCOMPLETE" in os.environ:  # the shell asks what may come next
        import argcomplete

        argcomplete.autocomplete(parser)
    options = vars(parser.parse_args(arguments))
    name = options.pop("verb")
    if name is None:
        parser.print_help()
        return 0
    try:
        supply_home()
        with tidy_termination():
            return _run(VERBS[name], options)
    except PeerError:
        return 2  # the rank that failed says why
    except UserError as error:
        print(f"gol {name}: error: {one_line(error)}", file=sys.stderr)
        return 2
    except JobFailed as error:
        print(f"gol {name}: {visible(str(error), keep=_LAYOUT)}", file=sys.stderr)
        return 1
    except Interrupted as error:
        print(f"gol {name}: {error}", file=sys.stderr)
        return 75  # EX_TEMPFAIL of sysexits.h
    except ModuleNotFoundError as error:
        extra = VERBS[name].extra
        if _is_installed(extra):
            raise
        # Not by the name gol, which is another project's in the public index.
        text = f"needs {error.name}: pip install '.[{extra}]' in the checkout"
        where = '(README, "Installing elsewhere")'
        print(f"gol {name}: error: {text} {where}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"gol {name}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # `gol experiments | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


def _run(verb: Verb, options: dict[str, Any]) -> int:
    """Calls a verb's function and prints its result; as JSON there is nothing else on stdout."""
    as_json = options.pop("as_json", False)
    with redirect_stdout(sys.stderr) if as_json else nullcontext():
        result = verb.action(**options)
    if result is None:
        return 0
    text = json.dumps(result.value, indent=1, allow_nan=False) if as_json else result.text
    if text:
        print(text if as_json else visible(text, keep=_LAYOUT), flush=True)
    return result.code


def _is_installed(extra: str) -> bool:
    """Whether the packages of an extra are all there."""
    try:
        for requirement in requires("gol") or ():
            if f"extra == '{extra}'" in requirement:
                version(re.split(r"[^\w.-]", requirement)[0])
    except PackageNotFoundError:
        return False
    return True
