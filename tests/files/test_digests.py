"""Damage is noticed by who reads a file, and nothing that is not damaged is refused."""

import json
import shutil
import subprocess

import numpy as np
import pytest
from seeds import fresh_seed

from gol import files
from gol.errors import UserError
from gol.files import read_json, remove, write_json
from gol.files.digests import log_lines, seal_path, sealed_line

VALUE = {"lr": 0.02, "names": ["a", "ü"]}


@pytest.fixture
def file(tmp_path):
    write_json(tmp_path / "a.json", VALUE, writer="gol config")
    return tmp_path / "a.json"


def replace(file, old, new):
    file.write_bytes(file.read_bytes().replace(old, new))


def test_another_number_is_noticed_and_both_remedies_work(file):
    replace(file, b"0.02", b"0.03")
    with pytest.raises(UserError) as caught:
        read_json(file)
    assert str(caught.value) == (
        f"{file} is damaged, or was edited after `gol config` wrote it: remove it and run that "
        "again, or remove .a.json.sha256 beside it to use the file as it is"
    )
    seal_path(file).unlink()
    assert read_json(file)["lr"] == 0.03
    write_json(file, VALUE, writer="gol config")
    assert read_json(file) == VALUE


def test_sha256sum_checks_it_too(file):
    command = ["sha256sum", "--strict", "-c", seal_path(file).name]
    assert subprocess.run(command, cwd=file.parent, capture_output=True).returncode == 0
    replace(file, b"0.02", b"0.03")
    assert subprocess.run(command, cwd=file.parent, capture_output=True).returncode == 1


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda f: f.write_text('{"mine": 1}'), {"mine": 1}),  # somebody's own in its place
        (lambda f: seal_path(f).unlink(), VALUE),  # of an older version
        (lambda f: seal_path(f).write_text("\x00ü"), VALUE),
        (lambda f: seal_path(f).write_bytes(b"\xff"), VALUE),
        (lambda f: seal_path(f).write_text("0" * 64 + "  a.json\n"), VALUE),
        (lambda f: shutil.copy(f.with_name("b.json"), f), {"b": 2}),
    ],
)
def test_what_is_not_damaged_is_read(file, change, wanted):
    write_json(file.with_name("b.json"), {"b": 2}, writer="gol config")
    change(file)
    assert read_json(file) == wanted


def test_a_crash_between_file_and_digest_leaves_an_unchecked_file(file, monkeypatch):
    def crash(path, text):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_text", crash)
    other = {**VALUE, "lr": 0.05}  # of the same length
    with pytest.raises(KeyboardInterrupt):
        write_json(file, other, writer="gol config")
    assert read_json(file) == other and not seal_path(file).exists()


def test_of_two_writers_neither_leaves_its_digest_beside_the_other_s_content(file, monkeypatch):
    write, other = files.write_text, {**VALUE, "lr": 0.05}  # of the same length

    def overtaken(path, text):
        monkeypatch.setattr(files, "write_text", write)
        write_json(file, other, writer="gol config")
        write(path, text)

    monkeypatch.setattr(files, "write_text", overtaken)
    write_json(file, {**VALUE, "lr": 0.04}, writer="gol config")
    assert read_json(file) == other


def test_a_file_that_is_replaced_while_it_is_read_is_not_refused(file, monkeypatch):
    """Its digest is the new one's."""
    check = files.check_seal

    def replaced(path, opened):
        monkeypatch.setattr(files, "check_seal", check)
        write_json(path, {**VALUE, "lr": 0.05}, writer="gol config")
        check(path, opened)

    monkeypatch.setattr(files, "check_seal", replaced)
    assert read_json(file) == VALUE
    assert read_json(file)["lr"] == 0.05


def test_a_file_and_its_digest_are_removed_together(file):
    remove(file)
    remove(file)
    assert list(file.parent.iterdir()) == []


LINES = [{"iteration": i, "loss": i / 7, "name": "ü"} for i in range(3)]


@pytest.fixture
def log(tmp_path):
    (tmp_path / "log").write_text("".join(map(sealed_line, LINES)), encoding="utf-8")
    return tmp_path / "log"


def test_lines_come_back_and_those_of_older_versions_too(log):
    assert [entry for _, entry in log_lines(log)] == LINES
    log.write_text("".join(json.dumps(line) + "\n" for line in LINES))
    assert [entry for _, entry in log_lines(log)] == LINES


def test_a_log_cut_anywhere_has_the_lines_before(log):
    content = log.read_bytes()
    ends = [i + 1 for i, byte in enumerate(content) if byte == ord("\n")]
    for size in range(len(content)):
        log.write_bytes(content[:size])
        # A whole line counts without its line feed, which its checksum has no need of.
        assert [e for _, e in log_lines(log)] == LINES[: sum(end - 1 <= size for end in ends)]


@pytest.mark.parametrize("seed", [fresh_seed()])
def test_each_flipped_bit_of_a_log_is_noticed_or_changes_nothing(log, seed):
    content = log.read_bytes()
    for bit in np.random.default_rng(seed).choice(8 * len(content), 400, replace=False):
        changed = bytearray(content)
        changed[bit // 8] ^= 1 << bit % 8
        log.write_bytes(changed)
        found = [entry for _, entry in log_lines(log)]
        same = [{key: (entry or {}).get(key) for key in LINES[0]} for entry in found] == LINES
        assert None in found or same, (bit, found)
