"""Annotation files and the report that marks them as ours, all of one run or none."""

import math
import os
import re
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from gol.data.prepared import SPLITS
from gol.errors import UserError
from gol.files import (
    configs_folder,
    parse_yaml,
    read_yaml,
    remove,
    sealed_path,
    write_json,
    write_text,
)

_DATASET, _UNKNOWN = "photos.yaml", "FOLDER"


def write_dataset_file(out: Path, images: str | None) -> tuple[Path, bool]:
    """Writes ``photos.yaml`` for the ``train.json`` and ``val.json`` of a folder.

    An earlier one keeps what else it says; a new one has it from ``configs/datasets/own.yaml``.

    Args:
        out: the folder.
        images: folder of the images of both; None: what an earlier file says, or ``FOLDER``.

    Returns:
        The file, and whether ``FOLDER`` stands in it for what somebody has to name.

    Raises:
        UserError: the file cannot be read or written, or is laid out so that it cannot be changed.
    """
    path = out / _DATASET
    template = path if path.exists() else configs_folder() / "datasets/own.yaml"
    try:
        text = template.read_text(encoding="utf-8").rstrip() + "\n"
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {template}: {error}") from error
    earlier = _entries(parse_yaml(text, str(template))) if path.exists() else {}
    wanted = {
        split: {
            "annotations": str(out / f"{split}.json"),
            "images": images or earlier.get(split, {}).get("images") or _UNKNOWN,
        }
        for split in SPLITS
    }

    def value(key: re.Match[str]) -> str:
        pairs = (f"{name}: {_quoted(file)}" for name, file in wanted[key[1]].items())
        return f"{key[1]}: {{{', '.join(pairs)}}}\n"

    text = re.sub(r"^(train|val):.*\n(?:[ \t]+\S.*\n)*", value, text, flags=re.M)
    if _entries(parse_yaml(text, str(path))) != wanted:
        raise UserError(f"{path} cannot be changed to name {out}/train.json and val.json: move it")
    write_text(path, text)
    return path, any(entry["images"] == _UNKNOWN for entry in wanted.values())


def remove_dataset_file(out: Path) -> None:
    """Removes a ``photos.yaml`` whose ``train.json`` or ``val.json`` in ``out`` is gone.

    Raises:
        UserError: it cannot be read or removed.
    """
    path = out / _DATASET
    if not path.exists():
        return
    for split, entry in _entries(read_yaml(path)).items():
        target, named = out / f"{split}.json", str(entry.get("annotations"))
        if os.path.abspath(named) == os.path.abspath(target) and not target.exists():
            _remove(path)


def _entries(content: Any) -> dict[str, dict[str, Any]]:
    """What a dataset file says of train and val."""
    values = content if isinstance(content, dict) else {}
    return {s: values[s] if isinstance(values.get(s), dict) else {} for s in SPLITS}


def _quoted(text: str) -> str:
    """A YAML string on one line; JSON's escapes beyond U+FFFF are none of YAML's."""
    import yaml

    return yaml.safe_dump(text, default_style='"', allow_unicode=True, width=math.inf).strip()


def _remove(path: Path) -> None:
    try:
        remove(path)
    except OSError as error:
        raise UserError(f"cannot remove {path}: {error.strerror}") from error


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
            _remove(out / name)
