"""Progress passes everything on; only long work is heard of."""

import gol.progress
from gol.progress import format_bytes, progress


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
