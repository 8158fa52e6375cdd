"""Detections of one file by several jobs."""

import json
import threading

import torch

from gol.engine.distributed import Ranks
from gol.engine.shards import write_sharded
from gol.files import exclusive


def test_the_second_of_two_jobs_waits_for_the_first(tmp_path, capsys):
    """Both would write the same parts."""
    out, ranks = tmp_path / "new/d.json", Ranks(0, 1, torch.device("cpu"))
    (tmp_path / "new").mkdir()
    second = threading.Thread(target=write_sharded, args=(out, [[1], [2, 3]], ranks))
    with exclusive(out, ""):
        second.start()
        second.join(0.5)
        assert second.is_alive() and [path.name for path in out.parent.iterdir()] == [
            ".d.json.lock"
        ]
    second.join(20)
    assert json.loads(out.read_text()) == [1, 2, 3]
    assert f"{out}: waiting for the process that writes it" in capsys.readouterr().err
