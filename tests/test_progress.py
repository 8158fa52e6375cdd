"""Progress passes everything on; only long work is heard of."""

import pytest

import gol.progress
from gol.engine.runlog import RunLog
from gol.progress import ByteProgress, format_bytes, progress, read_progress


def test_short_work_is_silent(capsys):
    assert list(progress(range(1000), "counting", 1000)) == list(range(1000))
    assert capsys.readouterr().err == ""


def test_long_work_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(gol.progress, "_INTERVAL", -1)
    assert list(progress(iter("abc"), "counting", 3)) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"counting: {n} of 3" for n in (1, 2, 3)]
    assert lines[-1].endswith(" 0 s left")


def test_bytes_are_in_the_units_of_disks():
    wanted = {
        0: "0 B",
        999: "999 B",
        1000: "1.0 kB",
        815_585_330: "815.6 MB",
        41 * 10**9: "41.0 GB",
    }
    assert {count: format_bytes(count) for count in wanted} == wanted
    assert format_bytes(1_234_000_000_000) == "1234.0 GB"


def test_every_line_of_progress_can_be_read_back(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(gol.progress, "_INTERVAL", -1)
    list(progress(iter("ab"), "counting", 2000))
    with ByteProgress("file", 4 * 10**9) as download:
        download.add(10**9)
        download._print("\n")
    log = RunLog(tmp_path / "metrics.jsonl", 0, 1200, 60, "demo/gumbel seed 0")
    log.printed -= 6
    log.add(300, 8, {"loss": 1.0, "lr": 0.02})
    found = [read_progress(line) for line in capsys.readouterr().err.splitlines()]
    assert [round(each.part, 4) for each in found[:4]] == [0.0005, 0.001, 0.25, 0.25]
    assert all(each.left is not None for each in found)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("x  iteration 3/12  epoch 0.1  left 1 day, 2:00:05", (0.25, 93605.0)),
        ("checking: 1,000 of 4,000, 1,200 s left", (0.25, 1200.0)),
        ("x  detected 5/0  left 0:00:00", None),
        ("learning rate 0.04 = 0.04 x 8/8 images; ranks 1", None),
        ("left 3 of 4 for tomorrow", None),
        ("", None),
    ],
)
def test_only_lines_of_progress_are_read(line, wanted):
    assert read_progress(line) == wanted
