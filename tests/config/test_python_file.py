"""What `gol config NAME` prints is literals: no text in it is code, and none is changed."""

import os
import random
import string

import pytest
from mmcv import Config

import gol
from gol.cli import main
from gol.config.python_file import python_text
from gol.errors import UserError

HOSTILE = [
    "Hunter's stew",
    "'+open('MARK', 'w').name+'",
    '"""',
    "back\\slash\\",
    "C:\\new\\table",
    "{{ fileDirname }}",
    "{{fileBasename}}{{{ fileExtname }}}",
    "{{ _base_.model }}",
    "\\{{ fileDirname }}",
    "one\ntwo\r\nthree\u2028four",
    "\x1b[31m\x00\x7f",
    "Käse 汉字 \U0001f9c0 e\u0301",
    "not UTF-8: \udcff",
    "a b " * 60 + "{{ fileDirname }}",
    "_delete_",
    "# coding: latin-1",
]


def read(text, folder):
    path = folder / "it's {{ fileBasename }}.py"
    path.write_text(text, encoding="utf-8")
    return Config.fromfile(str(path))._cfg_dict.to_dict()


@pytest.mark.parametrize("value", HOSTILE, ids=ascii)
def test_a_text_survives_mmcv_unchanged(value, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = {"a": value, "b": {value: [value, (value, {"c": value})]}, "n": [None, True, 1e-4, 1]}
    assert read(python_text(values), tmp_path) == values
    assert not (tmp_path / "MARK").exists()


def test_drawn_texts_survive(tmp_path):
    rng = random.Random(0)
    letters = "{}'\"\\ \n" * 6 + string.printable + "é\u200b_base_"
    drawn = ["".join(rng.choices(letters, k=rng.randrange(1, 200))) for _ in range(300)]
    assert read(python_text({"texts": drawn}), tmp_path) == {"texts": drawn}


def test_a_whole_config_with_hostile_texts(tmp_path, capsys):
    label, folder = 'Gumbel\'s "best" {{ fileDirname }}', "it's {{ fileBasename }} \\ images/"
    overrides = {"gol.label": label, "data.train.img_prefix": folder}
    settings = [f"{key}={value}" for key, value in overrides.items()]
    assert main(["config", "demo/gumbel", "--data", os.devnull, "--set", *settings]) == 0
    printed = read(capsys.readouterr().out, tmp_path)
    wanted = gol.load_experiment("demo/gumbel", overrides, os.devnull)._cfg_dict.to_dict()
    wanted["evaluation"]["interval"] = wanted["runner"]["max_epochs"]
    assert {key: printed[key] for key in wanted} == wanted


@pytest.mark.parametrize(
    "value", [object(), float("nan"), float("inf")], ids=["object", "nan", "inf"]
)
def test_what_is_not_a_literal_is_refused(value):
    with pytest.raises(UserError, match="cannot be written as Python literals"):
        python_text({"a": value})
