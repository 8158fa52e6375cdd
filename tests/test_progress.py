"""Progress passes everything on; only long work is heard of."""

import gol.progress
from gol.progress import progress


def test_short_work_is_silent(capsys):
    assert list(progress(range(1000), "counting", 1000)) == list(range(1000))
    assert capsys.readouterr().err == ""


def test_long_work_says_how_far_it_is(capsys, monkeypatch):
    monkeypatch.setattr(gol.progress, "_INTERVAL", -1)
    assert list(progress(iter("abc"), "counting", 3)) == ["a", "b", "c"]
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(",")[0] for line in lines] == [f"counting: {n} of 3" for n in (1, 2, 3)]
    assert lines[-1].endswith(" 0 s left")
