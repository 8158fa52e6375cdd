"""Annotation files and the report that marks them as ours, all of one run or none."""

import json
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gol.errors import UserError
from gol.files import configs_folder, remove, sealed_path, write_json, write_text


def write_dataset_file(out: Path, images: str) -> Path:
    """Writes ``photos.yaml`` for the ``train.json`` and ``val.json`` of a folder.

    An earlier one keeps what else it says; a new one has it from ``configs/datasets/own.yaml``.

    Args:
        out: the folder.
        images: folder of the images of both.

    Raises:
        UserError: the file cannot be read or written.
    """
    path = out / "photos.yaml"
    template = path if path.exists() else configs_folder() / "datasets/own.yaml"
    try:
        text = template.read_text(encoding="utf-8").rstrip() + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {template}: {error}") from error

    def value(key: re.Match[str]) -> str:
        files = {"annotations": str(out / f"{key[1]}.json"), "images": images}
        pairs = (f"{name}: {json.dumps(file)}" for name, file in files.items())  # YAML, too
        return f"{key[1]}: {{{', '.join(pairs)}}}\n"

    write_text(path, re.sub(r"^(train|val):.*\n(?:[ \t]+\S.*\n)*", value, text, flags=re.M))
    return path


def check_own(out: Path, names: Iterable[str], report: str, verb: str) -> None:
    """Refuses a folder with annotations that are somebody's own.

    Args:
        out: folder to write to.
        names: the annotation files that may be written.
        report: the file that is written with them.
        verb: the command that writes it.

    Raises:
        UserError: one of the files is there without the report.
    """
    taken = [name for name in names if (out / name).exists()]
    if taken and not (out / report).exists():
        raise UserError(f"{out} has a {taken[0]} that `{verb}` did not write: give another one")


def write_own(
    out: Path,
    names: Iterable[str],
    files: dict[str, Any],
    report: str,
    summary: dict[str, Any],
    verb: str,
) -> None:
    """Writes annotations and their report; nothing is replaced before all are on the disk.

    Args:
        out: folder to write to.
        names: the annotation files that ``verb`` may write; of an earlier run they are removed.
        files: content by name.
        report: name of the report.
        summary: content of the report.
        verb: the command that writes all of them.

    Raises:
        UserError: the folder cannot be written or the disk is full.
    """
    # The report comes into its place first, which is to be entered last: a second call may then
    # overwrite what an interrupted one has left.
    contents = [(name, content, None) for name, content in files.items()] + [(report, summary, 2)]
    with ExitStack() as stack:
        for name, content, indent in contents:
            temporary = stack.enter_context(sealed_path(out / name, verb))
            write_json(temporary, content, indent)
    for name in names:
        if name not in files:
            try:
                remove(out / name)
            except OSError as error:
                raise UserError(f"cannot remove {out / name}: {error.strerror}") from error
