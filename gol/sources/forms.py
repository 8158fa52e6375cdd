"""What a file is by its first bytes, whatever its name says."""

from contextlib import suppress
from pathlib import Path

from gol.errors import UserError

_FETCH = "download it again"
_UNPACK = "unpack it first"
#: How a file begins → what it is, and what helps.
_BEGINNINGS = {
    b"version https://git-lfs.github.com/": ("a Git LFS pointer", "run `git lfs pull`"),
    b"\x1f\x8b": ("compressed by gzip", _UNPACK),
    b"BZh": ("compressed by bzip2", _UNPACK),
    b"\xfd7zXZ\0": ("compressed by xz", _UNPACK),
    b"\x28\xb5\x2f\xfd": ("compressed by zstd", _UNPACK),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", _UNPACK),
    b"Rar!\x1a\x07": ("a RAR archive", _UNPACK),
    b"\x93NUMPY": ("a NumPy array", "name another file"),
    b"\x89HDF\r\n": ("an HDF5 file", "name another file"),
}
_TORCH = b"l\xfc\x9cF\xf9 j\xa8P\x19"  # the number with which torch's old format begins
_HEAD = 1024  # bytes that are looked at


def refuse_other_forms(path: Path, wanted: str, text: str = _FETCH) -> None:
    """Refuses what cannot be the wanted file, and says what it is instead.

    Args:
        path: a file; one that cannot be read is left to whoever reads all of it.
        wanted: e.g. "a checkpoint"; neither text nor one of the forms that are known here.
        text: what helps where it is a text file.

    Raises:
        UserError: the file is empty, a page, a pointer, an archive of another kind …
    """
    head = b""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(_HEAD)
        if form := _form(head, text):
            raise UserError(f"{path} is {form[0]}, not {wanted}: {form[1]}")


def _form(head: bytes, text: str) -> tuple[str, str] | None:
    if not head:
        return "empty", "replace it"
    for beginning, form in _BEGINNINGS.items():
        if head.startswith(beginning):
            return form
    if head[257:262] == b"ustar":
        return "a tar archive", _UNPACK
    if head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"<":
        return "a web page", _FETCH
    if head[0] == 0x80 and _TORCH not in head:
        return "a pickle of another program", "have it written by torch.save"
    # A zip's third byte is none of a text, nor is the second of torch's old format.
    if all(byte >= 32 or byte in b"\t\r\n" for byte in head):
        return "a text file", text
    return None
