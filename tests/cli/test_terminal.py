"""What the workflow draws: real Snakemake on a real pseudo-terminal, in 60 columns."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest
from signals import default_signals

from gol.cli.terminal import draws, places

SNAKEFILE = """
from snakemake.logging import logger
from gol.cli.terminal import attach
SCREEN = attach(logger, printed=("all",))
shell.prefix(f"exec >/dev/null 2>>{SCREEN.errors.path}; ")
rule all:
    input: expand("seed{seed}.txt", seed=[0, 1])
    log: "all.log"
    shell: "echo the table > {log}"
rule track:
    output: "seed{seed}.txt"
    log: "{seed}.log"
    shell: "for i in 1 2 3 4 5; do echo \\"x  iteration $i/8  left 0:01:00\\"; sleep 0.2; done"
        " > {log}; echo a warning >&2; [ ! -e fail ] || {{ echo the cause >> {log}; exit 1; }};"
        " touch {output}"
onstart: SCREEN.start()
onsuccess: SCREEN.stop()
onerror: SCREEN.stop()
"""


def _on_a_terminal(folder, interrupt_after=None):
    """(exit code, all that a terminal of 60 columns was sent)."""
    (folder / "Snakefile").write_text(SNAKEFILE)
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 20, 60, 0, 0))
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "60"}
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", "-c2", "-s", "Snakefile"],
        cwd=folder,
        env={key: value for key, value in environment.items() if key not in ("CI", "NO_COLOR")},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=default_signals,
    )
    os.close(theirs)
    text, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                text += os.read(ours, 65536)
            except OSError:  # nobody holds the other side any more
                break
        if interrupt_after and interrupt_after.encode() in text:
            os.killpg(process.pid, signal.SIGINT)
            interrupt_after = None
    os.close(ours)
    return process.wait(30), text.decode()


def _plain(text):
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


@pytest.mark.slow
def test_two_runs_have_a_bar_each_and_nothing_else_is_heard(tmp_path):
    code, text = _on_a_terminal(tmp_path)
    assert code == 0, _plain(text)[-2000:]
    shown = _plain(text)
    lines = [line.rstrip() for line in re.split(r"[\r\n]+", shown) if line.strip()]
    for seed in (0, 1):
        assert any(
            re.match(rf"{seed} +track +━+ .* 0:00:5\d|{seed} +track .*1:00", x) for x in lines
        )
        assert sum(x.startswith(f"{seed}  done in 0:00:0") for x in lines) == 1
    assert lines.count("a warning") == 2 and lines[-1] == "the table"
    assert max(map(len, lines[3:])) <= 60
    for noise in ("rule track", "jobid", "Job stats", "steps (100%) done"):
        assert noise not in shown
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # the cursor is back


@pytest.mark.slow
def test_a_job_that_fails_says_why(tmp_path):
    (tmp_path / "fail").touch()
    code, text = _on_a_terminal(tmp_path)
    assert code == 1
    assert "track failed; 0.log" in _plain(text) and "  the cause" in _plain(text)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_ctrl_c_leaves_the_terminal_as_it_was(tmp_path):
    code, text = _on_a_terminal(tmp_path, interrupt_after="track")
    assert code not in (0, None)
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


@pytest.mark.parametrize(
    ("variable", "value"), [("NO_COLOR", "1"), ("CI", "true"), ("TERM", "dumb"), (None, None)]
)
def test_no_bars_where_they_are_not_wanted(monkeypatch, variable, value):
    for name in ("NO_COLOR", "CI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = type("Terminal", (), {"isatty": lambda self: True})()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setattr(sys, "stderr", terminal)
    if variable:
        monkeypatch.setenv(variable, value)
    assert draws() == (variable is None)


def test_no_bars_in_a_pipe(monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    assert not draws()


def test_the_places_are_those_that_are_there(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "table.md").touch()
    (tmp_path / "mlflow.txt").write_text("http://127.0.0.1:5000/#/experiments/1\n")
    assert places(tmp_path).splitlines() == [
        f"table    {tmp_path}/table.md",
        "mlflow   http://127.0.0.1:5000/#/experiments/1  (first: mlflow ui)",
    ]
