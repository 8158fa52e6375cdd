"""Every command that a message, docstring or document names works as it is typed there."""

import ast
import re
import shlex
import subprocess

import pytest
from snakemake.cli import get_argument_parser

from gol.cli.verbs import VERBS, build_parser

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs", "Snakefile", "configs", "profiles", "workflow")
QUOTED = re.compile(r"`+((?:gol|snakemake|make) [^`]*)`+")
TYPED = re.compile(r"^(?:[$] )?((?:gol|snakemake|make) .*)$", re.MULTILINE)


def texts(root):
    """(place, text) of every string in the code, with X for what is filled in, and document."""
    for path in sorted((root / "gol").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            parts = node.values if isinstance(node, ast.JoinedStr) else [node]
            text = "".join(
                "X" if isinstance(part, ast.FormattedValue) else part.value
                for part in parts
                if isinstance(part, ast.FormattedValue)
                or (isinstance(part, ast.Constant) and isinstance(part.value, str))
            )
            if isinstance(node, ast.JoinedStr | ast.Constant) and text:
                yield f"{path.relative_to(root)}:{node.lineno}", text
    for name in DOCUMENTS:
        paths = sorted((root / name).rglob("*")) if (root / name).is_dir() else [root / name]
        for path in filter(lambda path: path.suffix in ("", ".md", ".yaml", ".smk"), paths):
            if path.is_file():
                yield str(path.relative_to(root)), path.read_text()


def commands(root):
    """(place, words) of every command, without what a shell does around it."""
    for place, text in texts(root):
        found = QUOTED.findall(text)
        for block in re.findall(r"```\n(.*?)```", text, re.DOTALL):
            found += TYPED.findall(block)
        for command in found:
            words = shlex.split(re.split(r" *[|>…]", command)[0], comments=True)
            if "<" not in command:
                yield place, words


def check_gol(words):
    """The verb is there and takes the arguments, or the options that are mentioned without any."""
    verb, *arguments = words
    if verb.startswith("-"):
        return
    assert verb in VERBS
    sub = build_parser()._subparsers._group_actions[0].choices[verb]
    sub.add_options(sub.later())
    sub.later = tuple
    if not all(word in sub._option_string_actions for word in arguments):
        sub.parse_args(arguments)


def check_snakemake(words, root):
    options = get_argument_parser().parse_args(words)
    assert set(options.targets) <= {"all", "reproduce_table"}
    assert all((root / path).is_file() for path in options.configfile or ())


def test_they_can_be_typed(root, capsys):
    targets = re.findall(r"^([\w-]+):", (root / "Makefile").read_text(), re.MULTILINE)
    seen = {"gol": 0, "snakemake": 0, "make": 0}
    for place, (program, *words) in commands(root):
        seen[program] += 1
        try:
            if program == "gol":
                check_gol(words)
            elif program == "snakemake":
                check_snakemake(words, root)
            else:
                assert set(words) <= set(targets)
        except (SystemExit, AssertionError) as error:
            reason = capsys.readouterr().err or error
            pytest.fail(f"{place}: {program} {shlex.join(words)}: {reason}")
    assert seen["gol"] > 60 and seen["snakemake"] > 10 and seen["make"] > 3, seen


def test_a_wrong_one_is_found(tmp_path):
    """The search itself: in an f-string, in a docstring, in a document."""
    (tmp_path / "gol").mkdir()
    code = '"""See ``gol plam``."""\nraise E(f"{x}: run `gol train {run} --devise cpu`")\n'
    (tmp_path / "gol/a.py").write_text(code)
    for name in DOCUMENTS:
        (tmp_path / name).touch()
    (tmp_path / "README.md").write_text(
        "```\ngol evaluate --out a.json   # scores\n```\nUse `gol`.\n"
    )
    found = [words for _, words in commands(tmp_path)]
    assert found == [
        ["gol", "plam"],
        ["gol", "train", "X", "--devise", "cpu"],
        ["gol", "evaluate", "--out", "a.json"],
    ]
    for _, *words in found:
        with pytest.raises((AssertionError, SystemExit)):
            check_gol(words)


def test_make_help_says_what_every_target_does(root):
    command = ["make", "--no-print-directory", "help"]  # `make test` is a make around this one
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    names = re.search(r"^[.]PHONY: (.*)", (root / "Makefile").read_text(), re.MULTILINE)[1].split()
    lines = [line.split(maxsplit=1) for line in listed.stdout.splitlines()]
    assert [line[0] for line in lines] == names and all(len(line) == 2 for line in lines)
