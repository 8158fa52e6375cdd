"""The log of a training that goes on."""

import json

from gol.engine.runlog import RunLog
from gol.files.digests import sealed_line


def test_a_resumed_log_keeps_what_is_sound_and_names_what_is_not(tmp_path, capsys):
    lines = [sealed_line({"iteration": i, "loss": i / 7}) for i in range(1, 7)]
    old = json.dumps({"iteration": 0, "loss": 1.0}) + "\n"  # of 0.3.0
    broken = [lines[1].replace("0.28", "0.29"), lines[2].replace("{", "x"), "7\n" * 9]
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join([old, lines[0], *broken, *lines[3:]]) + lines[0][:20])
    log = RunLog(path, 5, 10, 5, "run")
    assert path.read_text() == "".join([old, lines[0], *lines[3:5]])
    assert f"{path}: damaged and left out: line 3, 4, 5 and 8 more" in capsys.readouterr().err
    log.add(10, 2, {"loss": float("inf"), "lr": 0.1})
    last = json.loads(path.read_text().splitlines()[-1])
    assert 0.05 < last["memory_gb"] < 500  # this process holds torch
    assert '"loss": null' in path.read_text() and '"crc32": "' in path.read_text().splitlines()[-1]
