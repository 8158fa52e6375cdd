"""Reading run folders: whole, cut short and spoiled."""

import json
import random
import shutil

import pytest
from run_folders import edit, edit_gol, make_run

from gol.errors import UserError
from gol.files.digests import sealed_line
from gol.results.runs import read_curve, read_run


def test_curve_drops_the_line_of_a_killed_process_and_keeps_the_last_of_two(tmp_path):
    run = make_run(tmp_path / "run", lines=5)
    path = run / "metrics.jsonl"
    text = path.read_text()
    again = json.dumps({"iteration": 20, "time": 1.0, "loss": 7.0})
    path.write_text(text + again + "\n" + text.splitlines()[0][: random.randrange(1, 60)])
    curve = read_curve(run)
    assert [point["iteration"] for point in curve] == [10, 20, 30, 40, 50]
    assert curve[1]["loss"] == 7.0


@pytest.mark.parametrize(
    "line", ["{", "7", "null", "{}", '{"iteration": 1}', '{"iteration": "x", "time": 1}']
)
def test_garbage_inside_a_curve_names_the_line(tmp_path, line):
    run = make_run(tmp_path / "run", lines=3)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text("\n".join([lines[0], line, *lines[1:], ""]))
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_curve(run)


def _drop(path, *keys):
    content = json.loads(path.read_text())
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: shutil.rmtree(f), "no run folder"),
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "train.json").unlink(), "train.json is missing"),
        (lambda f: (f / "evaluation/gumbel.json").unlink(), "gumbel.json is missing"),
        (lambda f: (f / "train.json").write_text('{"iterations": 1'), "truncated"),
        (
            lambda f: (f / "train.json").write_text("[]"),
            "train.json: must be an object with the keys fingerprint",
        ),
        (lambda f: edit(f / "train.json", seconds="1"), "'seconds' must be a number"),
        (lambda f: _drop(f / "train.json", "fingerprint"), "key 'fingerprint' is missing"),
        (lambda f: _drop(f / "config.json", "gol"), "key 'gol' is missing"),
        (
            lambda f: _drop(f / "config.json", "gol", "axes"),
            "config.json: key 'gol.axes' is missing",
        ),
        (lambda f: _drop(f / "config.json", "gol", "scorings"), "key 'gol.scorings' is missing"),
        (lambda f: edit_gol(f, scorings=[]), "'gol.scorings' must have at least 1 entries, not []"),
        (lambda f: edit_gol(f, scorings=["../x"]), "must be the name of an activation, not '../x'"),
        (lambda f: edit_gol(f, seed=1.5), "'gol.seed' must be a whole number, not 1.5"),
        (
            lambda f: edit_gol(f, label=["a" * 500]),
            f"key 'gol.label' must be a text, not ['{'a' * 77}…",
        ),
        (
            lambda f: _drop(f / "evaluation/gumbel.json", "segm", "AP"),
            "gumbel.json: key 'segm' lacks 'AP'",
        ),
        (
            lambda f: _drop(f / "evaluation/gumbel.json", "per_class", 0, "name"),
            "gumbel.json: key 'per_class.0.name' is missing",
        ),
        (lambda f: edit(f / "evaluation/gumbel.json", images=None), "'images' must be"),
    ],
)
def test_an_incomplete_run_is_one_line_that_names_the_file_and_key(tmp_path, spoil, message):
    run = make_run(tmp_path / "run")
    spoil(run)
    with pytest.raises(UserError) as caught:
        read_run(run)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_damaged_line_of_a_curve_and_a_lost_end_are_said(tmp_path, capsys):
    run = make_run(tmp_path / "run", lines=5)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    sealed = [sealed_line(line) for line in lines]
    (run / "metrics.jsonl").write_text("".join(sealed))
    whole = read_curve(run)
    assert [point["loss"] for point in whole] == [line["loss"] for line in lines]
    assert "crc32" not in whole[0] and capsys.readouterr().err == ""
    (run / "metrics.jsonl").write_text("".join(sealed[:3]) + sealed[3][:50])
    assert read_curve(run) == whole[:3]
    assert "metrics.jsonl ends before iteration 50: its end is lost" in capsys.readouterr().err
    changed = sealed[1].replace('"iteration": 20', '"iteration": 40')
    (run / "metrics.jsonl").write_text("".join([sealed[0], changed, *sealed[2:]]))
    with pytest.raises(UserError, match=r"metrics\.jsonl, line 2 is damaged"):
        read_curve(run)
