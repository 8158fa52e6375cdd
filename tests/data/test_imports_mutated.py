"""A changed label file: an import that can be used, or one line and nothing written."""

import json
import random
import shutil

import numpy as np
import pytest
from export_files import WRITERS, draw_truth

from gol.cli import main
from gol.data.annotations import examine, load_annotations

ODD = (None, True, -1, 3.5, 1e308, float("nan"), float("inf"), 2**70, 10**400, "", "x", "3")
ODD += ("\ud800", [], {}, [1], [[1, 2]], {"a": 1}, "../../x", [None] * 4, [[[]]])
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
    if draw.random() < 0.3:
        del inside[key]
    else:
        inside[key] = draw.choice(ODD)
    return json.dumps(value)


def change_bytes(data, draw):
    place = draw.randrange(len(data))
    end = place + draw.choice((0, 0, 1, 9))
    return data[:place] + draw.choice(PIECES) + data[end:]


@pytest.mark.parametrize("name", WRITERS)
def test_a_changed_label_file(name, tmp_path, capsys):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
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
            file.write_text(change_json(file.read_text(), draw))
        else:
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
