"""What a zip archive holds: checked as a whole before anything is unpacked."""

import stat
import struct
import unicodedata
from pathlib import Path
from zipfile import ZIP_BZIP2, ZIP_DEFLATED, ZIP_LZMA, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from gol.errors import UserError, shown, visible

_ENCRYPTED, _UTF8 = 0x1, 0x800  # flags of a member
_READABLE = (ZIP_STORED, ZIP_DEFLATED, ZIP_BZIP2, ZIP_LZMA)
_METHODS = {9: "Deflate64", 93: "Zstandard", 95: "xz", 98: "PPMd"}
_HEADER = struct.Struct("<4s5H3L2H")  # before a member's name, extra field and data
_DESCRIPTOR = 24  # bytes that may follow them


def is_clutter(name: str) -> bool:
    """Whether a desktop made a file or folder of this name, for itself alone."""
    return name.startswith("._") or name.lower() in ("__macosx", ".ds_store", "thumbs.db")


def members(archive: Path, file: ZipFile, root: str, whole: bool = False) -> dict[str, ZipInfo]:
    """The files to unpack, by their paths; a desktop's clutter is left out.

    Args:
        archive: where ``file`` is, for the messages and to be read beside it.
        file: the open archive.
        root: the file or folder that every member must be or be in.
        whole: any name will do instead.

    Raises:
        UserError: another path, the same one twice, a link, an encrypted member …
        BadZipFile: the directory does not account for all bytes of the archive.
    """
    _check_extent(archive, file)
    found: dict[str, ZipInfo] = {}
    seen: dict[str, tuple[str, bool]] = {}  # without case → path, and whether it is a file
    for member in file.infolist():
        *parts, last = member.orig_filename.replace("\\", "/").split("/")
        parts += [last] if last else []  # a folder's name ends in a slash
        if any(map(is_clutter, parts)):
            continue
        if problem := _wrong_path(parts, None if whole else root):
            raise UserError(f"{archive} holds {shown(member.orig_filename)}, which is {problem}")
        _check_kind(archive, member, bool(last))
        for depth in range(1, len(parts) + 1):
            path, is_file = "/".join(parts[:depth]), bool(last) and depth == len(parts)
            key = unicodedata.normalize("NFC", path).casefold()
            if key in seen and (is_file or seen[key] != (path, False)):
                raise UserError(f"{archive} holds {shown(path)} twice (upper and lower case apart)")
            seen[key] = (path, is_file)
        if last:
            found[path] = member
    if not found:
        raise UserError(f"{archive} {'holds no file' if whole else f'does not hold {root}'}")
    return found


def _wrong_path(parts: list[str], root: str | None) -> str | None:
    outside = not parts or any(part in ("", ".", "..") for part in parts)
    unprintable = any(part != visible(part) for part in parts)
    if root is not None:
        return f"not {root}" if outside or unprintable or parts[0] != root else None
    if outside:
        return "a path outside the folder"
    return "an unprintable name" if unprintable else None


def _check_kind(archive: Path, member: ZipInfo, is_file: bool) -> None:
    name = shown(member.orig_filename)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG if is_file else stat.S_IFDIR):
        raise UserError(f"{archive} holds {name}, which is a link or another special file")
    if not is_file and member.file_size:
        raise UserError(f"{archive} holds {name}, a folder with content")
    if member.flag_bits & _ENCRYPTED:
        raise UserError(f"{archive} is encrypted: unpack it yourself, with its password")
    if member.compress_type not in _READABLE:
        method = _METHODS.get(member.compress_type, f"method {member.compress_type}")
        raise UserError(f"{archive} is compressed by {method}: unpack it yourself, say with 7-Zip")


def _check_extent(archive: Path, file: ZipFile) -> None:
    """Every byte up to the directory must be one member's: none is lost, none shared by two."""
    end = 0
    with open(archive, "rb") as raw:
        for member in sorted(file.infolist(), key=lambda member: member.header_offset):
            _check_gap(member.header_offset - end)
            raw.seek(member.header_offset)
            _, _, flags, *_, name_size, extra_size = _HEADER.unpack(raw.read(_HEADER.size))
            name = raw.read(name_size).decode("utf-8" if flags & _UTF8 else "cp437")
            if name != member.orig_filename:
                raise BadZipFile("two names of one member")
            end = raw.tell() + extra_size + member.compress_size
    _check_gap(file.start_dir - end)


def _check_gap(size: int) -> None:
    if not 0 <= size <= _DESCRIPTOR:
        raise BadZipFile("bytes that belong to no member, or to two")
