"""Zip archives, unpacked once and all or nothing."""

import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from zipfile import BadZipFile, ZipFile

from gol.errors import UserError
from gol.files import check_space, exclusive
from gol.progress import ByteProgress


def unpack(archive: str | Path, target: str | Path, whole: bool = False) -> Path:
    """Unpacks the file or folder ``target.name`` of a zip archive to ``target``.

    Nothing happens if ``target`` exists. Otherwise it appears whole, by a rename, after every
    member's checksum has been verified.

    Args:
        archive: zip whose members all are ``target.name`` or below it.
        target: file or folder to make.
        whole: makes ``target`` a folder of all that the archive holds, whatever its names.

    Returns:
        ``target``.

    Raises:
        UserError: the archive is damaged or holds something else, or the disk is full.
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
        members = [member for member in file.infolist() if not member.is_dir()]
        # What macOS adds is not part of the archive.
        members = [member for member in members if not member.filename.startswith("__MACOSX/")]
        for member in members:
            parts = PurePosixPath(member.filename.replace("\\", "/")).parts
            strange = parts[:1] in ((), ("/",)) if whole else parts[:1] != (target.name,)
            if ".." in parts or strange:
                raise UserError(f"{archive} holds {member.filename}, which is not {target.name}")
        if not members:
            raise UserError(f"{archive} does not hold {target.name}")
        size = sum(member.file_size for member in members)
        check_space(target.parent, size)
        shutil.rmtree(temporary, ignore_errors=True)  # of a process that was killed
        try:
            with ByteProgress(f"unpacking {archive.name}", size) as progress:
                for member in members:
                    file.extract(member, temporary)
                    progress.add(member.file_size)
            os.replace(temporary if whole else temporary / target.name, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _reading(archive: Path) -> Iterator[ZipFile]:
    if not archive.is_file():
        raise UserError(f"{archive} is missing")
    try:
        with ZipFile(archive) as file:
            yield file
    except (BadZipFile, EOFError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise UserError(f"{archive} is not an intact zip archive ({error}): remove it") from error
