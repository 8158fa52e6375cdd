"""A changed label file: an import that can be used, or one line and nothing written."""

import json
import shutil
from random import Random

import numpy as np
import pytest
from export_files import WRITERS, draw_truth
from seeds import fresh_seed

from gol.cli import main
from gol.data.annotations import examine, load_annotations

ODD = (None, True, -1, 3.5, 1e308, float("nan"), float("inf"), 2**70, 10**400, "", "x", "3")
ODD += (10**308, 10**6, 2**31)  # sizes for which no memory is enough
ODD += ("\ud800", [], {}, [1], [[1, 2]], {"a": 1}, "../../x", [None] * 4, [[[]]])
#: Findings that leave objects out; one of an image or a line may be of all three objects.
LEFT_OUT = ("left out", "left out, as --drop-bad says")
WHOLE = {"unreadable label file", "file that holds no labels of the format"}
PIECES = (b"-", b"9" * 30, b"nan", b"<a>", b"\0", b"1e999", b"&#0;", b"&a;", b"\xff")


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        if isinstance(item, dict | list):
            yield from places(item, (*path, key))
        else:
            yield (*path, key)


def change_json(text, draw):
    value = json.loads(text)
    *path, key = draw.choice([path for path in places(value) if path])
    inside = value
    for part in path:
        inside = inside[part]
    single = not isinstance(inside[key], dict | list)  # with a list, its objects may go
    if draw.random() < 0.3:
        del inside[key]
    else:
        inside[key] = draw.choice(ODD)
    return json.dumps(value), single


def change_bytes(data, draw):
    place = draw.randrange(len(data))
    end = place + draw.choice((0, 0, 1, 9))
    return data[:place] + draw.choice(PIECES) + data[end:]


def check_nothing_is_lost(out, drawn):
    changes = json.loads((out / "import.json").read_text())["changes"]
    files = {*out.glob("*.json")} - {out / "import.json"}
    written = sum(len(json.loads(file.read_text())["annotations"]) for file in files)
    left = sum(change["count"] for change in changes if change["severity"] in LEFT_OUT)
    assert drawn - written <= 3 * left or WHOLE & {change["kind"] for change in changes}


@pytest.mark.parametrize(("name", "seed"), [(name, fresh_seed()) for name in WRITERS])
def test_a_changed_label_file(name, seed, tmp_path, capsys):
    draw = Random(seed)
    truth = draw_truth(np.random.default_rng(7), tmp_path / "drawn")
    for number in range(8):
        folder, out = tmp_path / f"export {number}", tmp_path / f"out {number}"
        shutil.copytree(tmp_path / "drawn", folder)
        WRITERS[name](truth, folder)
        files = sorted(
            path for path in folder.rglob("*") if path.suffix in (".json", ".txt", ".xml")
        )
        file = draw.choice([*files, *folder.glob("*.yaml")])
        if file.suffix == ".json":
            text, single = change_json(file.read_text(), draw)
            file.write_text(text)
        else:
            single = True
            file.write_bytes(change_bytes(file.read_bytes(), draw))
        options = draw.choice(([], ["--drop-bad"], ["--sizes", "file", "--boxes", "rectangles"]))
        code = main(["import", str(folder), "--out", str(out), *options])
        if code:
            assert code == 2 and not out.exists()
            assert capsys.readouterr().err.strip().count("\n") == 0
            continue
        for written in {*out.glob("*.json")} - {out / "import.json"}:
            _, problems = examine(load_annotations(written), folder)
            assert not [problem for problem in problems if problem.fatal]
        if single:
            check_nothing_is_lost(out, 18)
