"""Lists that are read an entry at a time, against json."""

import hashlib
import io
import json
import random

import pytest

from gol.errors import UserError
from gol.files import read_json, stream, write_json
from gol.files.stream import list_items, read_json_list, read_json_object


@pytest.fixture(params=[1, 2, 7, 1 << 20])
def window(request, monkeypatch):
    """Characters that are decoded at once: an entry is cut anywhere."""
    monkeypatch.setattr(stream, "_WINDOW", request.param)


def value(depth=0):
    simple = [None, True, -12, 3.25e-70, 0.5, "", 'a "b" ], [\\', "é中", random.random(), 10**18]
    if depth > 2 or random.random() < 0.4:
        return random.choice(simple)
    if random.random() < 0.5:
        return [value(depth + 1) for _ in range(random.randrange(4))]
    return {str(i): value(depth + 1) for i in range(random.randrange(4))}


def test_the_entries_are_those_that_json_reads(window, tmp_path):
    for indent in (None, 1):
        expected = [value() for _ in range(random.randrange(40))]
        path = tmp_path / "list.json"
        path.write_text(" \n" + json.dumps(expected, indent=indent) + "\n", encoding="utf-8-sig")
        assert list(read_json_list(path, "things")) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2",
        "[1 2]",
        "[1,, 2]",
        "[1, ]",
        "[, 1]",
        "[1] 2",
        "[1]]",
        "[tru]",
        "[3.e1]",
        "",
        "[" * 10_000,
    ],
)
def test_what_json_refuses_is_refused_in_the_same_words(window, tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError) as expected:
        read_json(path)
    with pytest.raises(UserError) as found:
        list(read_json_list(path, "things"))
    assert str(found.value) == str(expected.value)


def test_anything_but_a_list_is_refused(tmp_path):
    path = tmp_path / "object.json"
    path.write_text('{"a": [1]}')
    with pytest.raises(UserError, match="expected a list of things"):
        list(read_json_list(path, "things"))


def test_damage_is_noticed_before_the_first_entry(tmp_path):
    path = tmp_path / "list.json"
    write_json(path, [1, 2, 3], writer="gol detect")
    path.write_text(path.read_text().replace("2", "4"))
    with pytest.raises(UserError, match="damaged"):
        next(read_json_list(path, "things"))


def test_what_follows_the_list_is_handed_back(window):
    text = io.StringIO('1, {"a": 2}], "annotations": []}')
    items = list_items(text)
    assert [next(items), next(items)] == [1, {"a": 2}]
    with pytest.raises(StopIteration) as end:
        next(items)
    assert end.value.value + text.read() == ', "annotations": []}'


def test_an_entry_without_end_is_not_read_to_the_end(monkeypatch):
    monkeypatch.setattr(stream, "_LONGEST", 1000)
    monkeypatch.setattr(stream, "_WINDOW", 300)
    text = io.StringIO('"' + "x" * 10_000)
    with pytest.raises(ValueError, match="an entry is too long"):
        list(list_items(text))
    assert text.tell() < 2000


@pytest.mark.parametrize("indent", [None, 1])
def test_an_object_is_what_json_reads_and_its_list_is_shrunk(window, tmp_path, indent):
    """Lists of objects are read in runs, cut where another object may only seem to begin."""
    entries = [{"i": i, "text": '}, {"', "in": [{"a": 1}, {"b": value()}]} for i in range(30)]
    expected = {"info": value(), "annotations": entries, "empty": [], "last": value()}
    path = tmp_path / "object.json"
    path.write_text(json.dumps(expected, indent=indent), encoding="utf-8-sig")
    runs = []
    found, digest = read_json_object(path, {"annotations": lambda run: runs.append(run) or run})
    assert found == expected
    assert [entry for run in runs for entry in run] == entries
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("text", ['{"a": [{}, {}', '{"a": 1} 2', "{1: 2}", '{"a": [{"b": tru}]}'])
def test_a_broken_object_is_refused_in_the_words_of_json(window, tmp_path, text):
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(UserError) as expected:
        read_json(path)
    with pytest.raises(UserError) as found:
        read_json_object(path, {})
    assert str(found.value) == str(expected.value)
