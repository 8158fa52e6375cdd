"""The files that a dataset is made of: fetched, unpacked, or linked from a COCO folder."""

import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gol.errors import UserError, pick, plural
from gol.files import check_space, configs_folder, read_yaml, write_json
from gol.progress import format_bytes
from gol.sources.archive import unpack
from gol.sources.download import Source, fetch
from gol.sources.members import is_clutter


@cache
def downloads() -> dict[str, dict[str, Any]]:
    """Name of every download to its definition in ``configs/downloads.yaml``."""
    return read_yaml(configs_folder() / "downloads.yaml")


def proof(entry: Mapping[str, Any]) -> Path:
    """The file whose presence says that a download is complete: a JSON, or a folder's marker."""
    made = Path(entry["makes"])
    return made.with_name(f"{made.name}.complete") if "images" in entry else made


def is_there(entry: Mapping[str, Any]) -> bool:
    """Whether a download is complete: a marker may outlive its folder, or what that links to."""
    return proof(entry).exists() and Path(entry["makes"]).exists()


def download(names: Iterable[str], coco: str | Path | None = None) -> None:
    """Fetches and unpacks what is missing; what is there stays. Paths are relative to the cwd.

    Args:
        names: keys of ``configs/downloads.yaml``.
        coco: folder with ``train2017`` and ``val2017``, to be linked instead of downloaded.

    Raises:
        UserError: unknown name, no working address, an incomplete folder, a full disk.
    """
    entries = {name: pick("download", name, downloads()) for name in names}
    try:
        _download(entries, coco)
    except OSError as error:
        raise UserError(f"cannot write {error.filename}: {error.strerror}") from error


def _download(entries: dict[str, Mapping[str, Any]], coco: str | Path | None) -> None:
    missing = {name: entry for name, entry in entries.items() if not is_there(entry)}
    for name, entry in entries.items():
        if name not in missing:
            _say(f"{entry['makes']}: already there")
    if coco is not None:
        for entry in missing.values():
            if "images" in entry:
                _link(Path(coco), Path(entry["makes"]))
    check_disk(missing)
    for entry in missing.values():
        _make(entry)


def check_disk(names: Iterable[str]) -> None:
    """Checks that all archives and what they hold fit, before the first of many gigabytes.

    Raises:
        UserError: a disk has too little space left.
    """
    needed: dict[int, int] = {}
    places: dict[int, Path] = {}
    wanted = [downloads()[name] for name in names]
    for entry in (entry for entry in wanted if not Path(entry["makes"]).exists()):
        archive = _archive(entry)
        part = archive.with_name(f"{archive.name}.part")
        have = sum(path.stat().st_size for path in (archive, part) if path.exists())
        place = next(folder for folder in archive.absolute().parents if folder.exists())
        disk = place.stat().st_dev
        # Images hardly shrink in a zip; a JSON's full size is checked before it is unpacked.
        needed[disk] = needed.get(disk, 0) + max(2 * entry.get("bytes", 0) - have, 0)
        places[disk] = place
    for disk, size in needed.items():
        check_space(places[disk], size)


def _archive(entry: Mapping[str, Any]) -> Path:
    return Path(entry["makes"]).parent / Source.of(entry).name


def _make(entry: Mapping[str, Any]) -> None:
    made, count = Path(entry["makes"]), entry.get("images")
    if not made.exists():
        _remove_dangling(made)
        archive = fetch(Source.of(entry), _archive(entry))
        unpack(archive, made)
        size = format_bytes(archive.stat().st_size)
        _say(f"{made}: unpacked; {archive} ({size}) is no longer needed")
    if count is not None:
        names = [path.name for path in made.iterdir() if not is_clutter(path.name)]
        found = sum(name.lower().endswith(".jpg") for name in names)
        if found != count:
            there = plural(found, "image")
            raise UserError(f"{made} has {there}, not {count:,}: complete it or move it away")
        write_json(proof(entry), {"images": count})


def _link(coco: Path, made: Path) -> None:
    """Makes ``made`` a link to the folder of the same name in ``coco``."""
    folder = (coco / made.name).resolve()
    if not folder.is_dir():
        raise UserError(f"{coco} has no folder {made.name}")
    _remove_dangling(made)
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        made.symlink_to(folder, target_is_directory=True)
        _say(f"{made}: linked to {folder}")
    elif made.resolve() != folder:
        raise UserError(f"{made} exists and is not {folder}: move it away first")


def _remove_dangling(made: Path) -> None:
    if made.is_symlink() and not made.exists():
        made.unlink()  # a link to what has gone


def _say(text: str) -> None:
    print(text, file=sys.stderr)
