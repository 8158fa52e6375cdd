"""The exports that a dataset names → train and val, with a link to the images of each."""

import os
import re
from pathlib import Path
from typing import Any

from gol.data.imports.door import import_export
from gol.data.imports.repair import Answers
from gol.data.prepared import SPLITS, Drawn
from gol.data.split import split_annotations
from gol.errors import UserError, choices
from gol.files import read_json, write_json

_OPTION = re.compile(r"--(boxes|crowd|sizes) (\w+)|--by (\S+)|--(drop-bad|images|class-key|format)")


def import_splits(
    exports: dict[str, tuple[str, str | None]],
    out: Path,
    form: str | None,
    answers: Answers,
    drop_bad: bool,
    division: dict[str, Any],
) -> str:
    """Imports a dataset's exports and writes ``train.json`` and ``val.json`` of the same classes.

    Without an export of val, val is what train's says is val; if it says nothing, it is divided
    off as ``gol split`` does. Classes of val are matched with train's by name. What messages of
    ``gol import`` and ``gol split`` call an option is a key of the dataset's file here.

    Args:
        exports: split to an export and the folder of its images, or None; val may be missing.
        out: folder to write to; ``out/train`` and ``out/val`` become links to the images.
        form: as :func:`gol.data.imports.door.import_export`, as are ``answers`` and ``drop_bad``.
        answers: what to do where an export may mean two things.
        drop_bad: leaves out what is wrong.
        division: ``share``, ``seed`` and ``by`` of :func:`gol.data.split.split_annotations`, as
            far as the file states them.

    Returns:
        A text of all that was found and changed.

    Raises:
        UserError: as these two.
    """
    try:
        return _as_keys(_import(exports, out, form, answers, drop_bad, division))
    except UserError as error:
        raise UserError(_as_keys(str(error))) from error


def _as_keys(text: str) -> str:
    """The text with keys of a dataset's file in the place of options."""

    def key(option: re.Match) -> str:
        name, value, by, single = option.groups()
        if by:
            return f"`split: {{by: {by}}}`"
        plain = f"`{single}`".replace("drop-bad", "drop_bad: true").replace("-", "_")
        return f"`{name}: {value}`" if name else plain

    return _OPTION.sub(key, text)


def _import(
    exports: dict[str, tuple[str, str | None]],
    out: Path,
    form: str | None,
    answers: Answers,
    drop_bad: bool,
    division: dict[str, Any],
) -> str:
    texts, images, files, classes = [], {}, {}, []
    for split, (source, folder) in exports.items():
        place = out / f"from_{split}"
        summary = import_export(source, place, form, folder, answers, drop_bad, classes)
        texts.append(summary["text"])
        images[split], found = summary["images"], summary["splits"]
        files[split] = place / _pick(split, source, found)
        if split == "train" and "val" not in exports and "val.json" in found:
            files["val"] = place / "val.json"
        classes = read_json(files[split])["categories"]
    if "val" not in files:
        divided = split_annotations(files["train"], out / "divided", **division)
        texts.append(divided["text"])
        files = {split: out / "divided" / f"{split}.json" for split in SPLITS}
    elif division:
        texts.append("the key 'split' is not used: what is val is said by the export")
    for split in SPLITS:
        _link(Drawn(out).images(split), Path(images.get(split, images["train"])))
        data = {**read_json(files[split]), "categories": classes}
        write_json(Drawn(out).annotations(split), data, writer="gol import")
    return "\n".join(texts)


def _pick(split: str, source: str, found: dict[str, Any]) -> str:
    """The annotation file of a split among those that an export gave."""
    names = [name for name in (f"{split}.json", "annotations.json") if name in found]
    if not names and len(found) > 1:
        raise UserError(f"{source} says nothing of {split}: it has {choices(found)}")
    return (names or [*found])[0]


def _link(link: Path, target: Path) -> None:
    try:
        if link.is_symlink():
            link.unlink()
        link.symlink_to(os.path.relpath(target.resolve(), link.parent.resolve()))
    except OSError as error:
        raise UserError(f"cannot link {link} to {target}: {error.strerror}") from error
