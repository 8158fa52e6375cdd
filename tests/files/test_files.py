"""Files are whole or absent, and long ones are written in pieces without a difference."""

import json
import os

import numpy as np
import pytest
from seeds import fresh_seed

from gol.errors import UserError
from gol.files import parse_yaml, read_json, write_json, write_text


def long_value(rng, length):
    return {
        "empty": [],
        'quoted "key"\n': "ü",
        "entries": [{"id": i, "x": x} for i, x in enumerate(rng.random(length).tolist())],
        "last": {"a": [1, None, True]},
    }


@pytest.mark.parametrize("length", [0, 1, 2, 25_000])
def test_pieces_are_the_text_of_json(tmp_path, length):
    value = long_value(np.random.default_rng(fresh_seed()), length)
    for content in (value, {}, [], {"a": value["entries"]}, value["entries"]):
        for indent in (None, 1):
            write_json(tmp_path / "a.json", content, indent)
            assert (tmp_path / "a.json").read_text() == json.dumps(content, indent=indent) + "\n"


def test_a_byte_order_mark_is_read_over(tmp_path):
    (tmp_path / "a.json").write_text('{"ü": 1}', encoding="utf-8-sig")
    assert read_json(tmp_path / "a.json") == {"ü": 1}


def test_a_value_that_json_lacks_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "a.json", {"old": 1})
    entries = [*range(20_000), float("nan")]
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "a.json", {"a": entries})
    assert json.loads((tmp_path / "a.json").read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["a.json"]


LAUGHS = "\n".join(
    ["a0: &a0 [x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
)


@pytest.mark.parametrize("text", [LAUGHS, "&a [*a]", "a: &a {b: *a}"])
def test_aliases_cannot_fill_the_memory(text):
    """ "A billion laughs" are 600 bytes, and a repr of them for a message never ends."""
    with pytest.raises(UserError, match=r"file\.yaml: its aliases"):
        parse_yaml(text, "file.yaml")
    assert parse_yaml("a: &a [1, {b: c}]\nd: *a", "") == {
        "a": [1, {"b": "c"}],
        "d": [1, {"b": "c"}],
    }


@pytest.mark.parametrize("text", ["[" * 10**5, '{"a": ' * 10**5, "- " * 10**5, "? " * 10**5])
def test_deep_yaml_is_refused_and_does_not_end_the_process(text):
    with pytest.raises(UserError, match=r"file\.yaml: .* nested too deeply"):
        parse_yaml(text, "file.yaml")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * 5000 + "]" * 5000, "nested too deeply"),
        ("9" * 5000, "not valid JSON: .*4300 digits"),
        ("[1, 2", r"not valid JSON \(truncated\?\)"),
    ],
)
def test_json_that_python_cannot_hold_is_refused(tmp_path, text, words):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(UserError, match=words):
        read_json(tmp_path / "a.json")


def test_a_text_that_is_not_utf_8_is_written_with_escapes(tmp_path):
    write_text(tmp_path / "a", "ü \udce9")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "ü \\udce9"
