"""Files are whole or absent, and long ones are written in pieces without a difference."""

import json
import os

import numpy as np
import pytest
from seeds import fresh_seed

from gol.files import read_json, write_json


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
