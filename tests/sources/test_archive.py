"""Archives as people have them: unpacked whole, or refused by what is wrong with them."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import warnings
import zipfile

import pytest
from campaigns import archives
from seeds import fresh_seed

from gol.errors import UserError
from gol.sources.archive import unpack


def entry(name, mode=0, content=b"x"):
    info = zipfile.ZipInfo("placeholder")
    info.filename, info.external_attr = name, mode << 16
    return info, content


def make_zip(path, *entries, method=zipfile.ZIP_DEFLATED):
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as file:
        warnings.simplefilter("ignore")  # zipfile's, for a name that is there twice
        for info, content in entries:
            file.writestr(info, content, method)
    return path


def refuse(archive, match):
    """Unpacking is refused in one line and leaves nothing behind."""
    before = sorted(archive.parent.rglob("*"))
    with pytest.raises(UserError, match=match) as error:
        unpack(archive, archive.parent / "a")
    assert "\n" not in str(error.value) and str(archive) in str(error.value)
    left = [path for path in archive.parent.rglob("*") if path.name != ".a.lock"]
    assert sorted(left) == [path for path in before if path.name != ".a.lock"]


def test_what_desktops_add_is_left_out(tmp_path):
    clutter = ["__MACOSX/a/._1", ".DS_Store", "a/.DS_Store", "a/b/._2.jpg", "a/Thumbs.db"]
    entries = [entry(name) for name in ["a/1.jpg", *clutter]]
    unpack(make_zip(tmp_path / "z.zip", *entries), tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").rglob("*")] == ["1.jpg"]
    (tmp_path / "y").mkdir()
    refuse(make_zip(tmp_path / "y/z.zip", *entries[1:]), "does not hold a")


@pytest.mark.parametrize("method", [0, 8, 12, 14])
def test_windows_paths_and_other_methods_are_unpacked(tmp_path, method):
    content = b"line\n" * 100
    entries = entry("a\\b\\1.jpg", content=content), entry("a\\ü.jpg", content=content)
    unpack(make_zip(tmp_path / "z.zip", *entries, method=method), tmp_path / "a")
    assert (tmp_path / "a/b/1.jpg").read_bytes() == (tmp_path / "a/ü.jpg").read_bytes() == content


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a/1", "a/1"], "holds 'a/1' twice"),
        (["a/x.jpg", "a/X.JPG"], "holds 'a/X.JPG' twice"),
        (["a/b/1", "a/B/2"], "holds 'a/B' twice"),
        (["a/b", "a/b/1"], "holds 'a/b' twice"),
        (["a/b/1", "a/b"], "holds 'a/b' twice"),
        (["a/u\u0308", "a/\u00fc"], "holds 'a/ü' twice"),  # one name to a Mac
        (["a/1", ""], "holds '', which is not a"),
        (["a/1", "."], r"holds '\.', which is not a"),
        (["a//1"], "which is not a"),
        (["a/./1"], "which is not a"),
        (["a/../a/1"], "which is not a"),
        (["/a/1"], "which is not a"),
        (["C:\\a\\1"], "which is not a"),
        (["a/1\x1b[31m"], r"holds 'a/1\\x1b\[31m', which is not a"),
        (["a/1\n2"], r"holds 'a/1\\n2', which is not a"),
    ],
)
def test_names_that_are_odd_or_clash_are_refused(tmp_path, names, words):
    refuse(make_zip(tmp_path / "z.zip", *map(entry, names)), words)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFDIR])
def test_links_and_devices_are_refused(tmp_path, kind):
    link = entry("a/link", kind | 0o777, b"/etc/passwd")
    refuse(make_zip(tmp_path / "z.zip", entry("a/1"), link), "'a/link', which is a link or another")


def test_a_whole_archive_becomes_a_folder(tmp_path):
    path = make_zip(tmp_path / "z.zip", entry("1.jpg"), entry("b/2.jpg"), entry(".DS_Store"))
    unpack(path, tmp_path / "a", whole=True)
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert sorted(path.name for path in files) == ["1.jpg", "2.jpg"]
    outside = dict.fromkeys(("", "/", "/etc/x", "../x", "b/../../x"), "a path outside the folder")
    for name, words in {**outside, "a\x1b[2J": "an unprintable name"}.items():
        make_zip(path, entry("1.jpg"), entry(name))
        with pytest.raises(UserError, match=f"which is {words}"):
            unpack(path, tmp_path / "c", whole=True)
        assert not (tmp_path / "c").exists()
    with pytest.raises(UserError, match=r"z\.zip holds no file"):
        unpack(make_zip(path, entry("b/", content=b"")), tmp_path / "c", whole=True)


def test_odd_spaces_are_part_of_a_name(tmp_path):
    """macOS writes a narrow no-break space before the PM of a screenshot's time."""
    names = [f"a/1{space}PM.png" for space in "\u202f\u00a0\u3000"]
    unpack(make_zip(tmp_path / "z.zip", *map(entry, names)), tmp_path / "a")
    assert sorted(f"a/{path.name}" for path in (tmp_path / "a").iterdir()) == sorted(names)


def patched(path, offset, value):
    """An archive whose member has another 16-bit field, in both of its headers."""
    data = bytearray(make_zip(path, entry("a/1")).read_bytes())
    for begin, shift in ((0, 0), (data.index(b"PK\x01\x02"), 2)):
        struct.pack_into("<H", data, begin + offset + shift, value)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (6, 1, "is encrypted: unpack it yourself"),
        (8, 9, "is compressed by Deflate64: unpack it yourself"),
        (8, 93, "is compressed by Zstandard"),
        (8, 40, "is compressed by method 40"),
    ],
)
def test_members_that_cannot_be_read_are_named(tmp_path, offset, value, words):
    refuse(patched(tmp_path / "z.zip", offset, value), rf"z\.zip {words}")


def tar():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        file.addfile(tarfile.TarInfo("a/1"))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (tar(), "a tar archive, not a zip archive: unpack it"),
        (gzip.compress(b"x"), "compressed by gzip, not"),
        (bz2.compress(b"x"), "compressed by bzip2"),
        (lzma.compress(b"x"), "compressed by xz"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        (b"<html>", "a web page, not a zip archive: download it again"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    ],
    ids=["tar", "gzip", "bzip2", "xz", "7z", "RAR", "page", "LFS"],
)
def test_archives_of_other_kinds_are_named(tmp_path, content, words):
    (tmp_path / "z.zip").write_bytes(content)
    refuse(tmp_path / "z.zip", rf"z\.zip is {words}")


def test_bombs_are_refused_before_they_are_unpacked(tmp_path):
    path = make_zip(tmp_path / "z.zip", entry("a/1", content=b"\0" * (17 << 20)))
    refuse(path, r"would fill 17\.8 MB, too much for its own size")
    data = make_zip(path, entry("a/1"), entry("a/2")).read_bytes()
    first, second = data.index(b"PK\x01\x02"), data.rindex(b"PK\x01\x02")
    end = data.index(b"PK\x05\x06")
    # two entries of the same bytes, as in bombs that overlap
    path.write_bytes(data[:second] + data[first:second].replace(b"a/1", b"a/2") + data[end:])
    refuse(path, "not an intact zip archive .*that belong to no member, or to two")


def test_a_member_that_the_directory_has_lost_is_missed(tmp_path):
    path = make_zip(tmp_path / "z.zip", entry("a/1"), entry("a/2"), entry("a/3"))
    data = bytearray(path.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    size = data.rindex(b"PK\x01\x02") - second
    struct.pack_into("<H", data, second - size + 32, size)  # a comment that holds the next entry
    path.write_bytes(data)
    assert len(zipfile.ZipFile(path).infolist()) == 2
    refuse(path, "not an intact zip archive")


def test_a_link_in_the_place_of_the_temporary_folder_is_not_followed(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".a.unpacking").symlink_to("elsewhere")
    unpack(make_zip(tmp_path / "z.zip", entry("a/1")), tmp_path / "a")
    assert not list((tmp_path / "elsewhere").iterdir()) and (tmp_path / "a/1").exists()


@pytest.mark.parametrize("seed", [fresh_seed()])
@pytest.mark.slow
def test_mutated_archives_are_unpacked_as_they_were_or_refused(seed):
    outcomes = archives.run(3000, seed)
    assert outcomes.keys() == {"unpacked", "refused"}, outcomes
