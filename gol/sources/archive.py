"""Zip archives, unpacked once and all or nothing."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile, ZipFile, ZipInfo

from gol.errors import UserError
from gol.files import check_space, exclusive
from gol.progress import ByteProgress, format_bytes
from gol.sources.forms import refuse_other_forms
from gol.sources.members import members

# Annotations shrink to a tenth. Zeros shrink to a thousandth, and an archive of them is a bomb.
_RATIO, _SMALL = 200, 16 << 20
_BLOCK = 1 << 20


def unpack(archive: str | Path, target: str | Path, whole: bool = False) -> Path:
    """Unpacks the file or folder ``target.name`` of a zip archive to ``target``.

    Nothing happens if ``target`` exists. Otherwise it appears whole, by a rename, after every
    member's size and checksum have been verified.

    Args:
        archive: zip whose members all are ``target.name`` or below it.
        target: file or folder to make.
        whole: makes ``target`` a folder of all that the archive holds, whatever its names.

    Returns:
        ``target``.

    Raises:
        UserError: the archive is damaged, hostile, of another kind or holds something else, or
            the disk is full.
    """
    archive, target = Path(archive), Path(target)
    temporary = target.with_name(f".{target.name}.unpacking")
    try:
        with exclusive(target, f"{target}: waiting for the process that unpacks it"):
            if not target.exists():
                _extract(archive, target, temporary, whole)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or target}: {error.strerror}") from error
    return target


def _extract(archive: Path, target: Path, temporary: Path, whole: bool) -> None:
    with _reading(archive) as file:
        wanted = members(archive, file, target.name, whole)
        size = sum(member.file_size for member in wanted.values())
        if size > max(_RATIO * archive.stat().st_size, _SMALL):
            raise UserError(f"{archive} would fill {format_bytes(size)}, too much for its own size")
        check_space(target.parent, size)
        _remove(temporary)  # of a process that was killed
        try:
            with ByteProgress(f"unpacking {archive.name}", size) as progress:
                for path, member in wanted.items():
                    _write(file, member, temporary / path)
                    progress.add(member.file_size)
            os.replace(temporary if whole else temporary / target.name, target)
        finally:
            _remove(temporary)


def _write(file: ZipFile, member: ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with file.open(member) as source, open(path, "xb") as copy:
        while block := source.read(_BLOCK):  # the last one compares the checksum
            copy.write(block)
        if copy.tell() != member.file_size:
            raise BadZipFile(f"{copy.tell()} bytes instead of {member.file_size}")


def _remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _reading(archive: Path) -> Iterator[ZipFile]:
    if not archive.is_file():
        raise UserError(f"{archive} is missing")
    refuse_other_forms(archive, "a zip archive")
    try:
        with ZipFile(archive) as file:
            yield file
    except UserError:
        raise
    except Exception as error:  # zipfile and its decompressors raise a dozen types for damage
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = str(error) or type(error).__name__
        raise UserError(f"{archive} is not an intact zip archive ({reason}): remove it") from error
