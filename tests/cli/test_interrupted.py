"""SIGUSR2 to a verb that somebody typed: one line, exit code 75, and the same command continues."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from processes import Process

import gol
from gol.cli import main
from gol.cli.termination import tidy_termination
from gol.config.resolve import save_config
from gol.engine import shares
from gol.engine.trainer import Trainer


@pytest.fixture
def ask(monkeypatch):
    """Makes this process receive SIGUSR2 the next time that it calls a function."""

    def install(owner, name):
        function = getattr(owner, name)

        def asking(*arguments):
            os.kill(os.getpid(), signal.SIGUSR2)
            monkeypatch.setattr(owner, name, function)
            return function(*arguments)

        monkeypatch.setattr(owner, name, asking)

    return install


@pytest.mark.slow
def test_train_and_detect(ask, tmp_path, tiny_data, capsys):
    run, out = tmp_path / "run", tmp_path / "d.json"
    overrides = {"runner.max_epochs": 1, "data.workers_per_gpu": 0}
    overrides["model.test_cfg.rcnn.max_per_img"] = 10
    save_config(gol.load_experiment("demo/gumbel", overrides, tiny_data), run)
    train = ["train", str(run), "--device", "cpu"]
    ask(Trainer, "step")
    assert main(train) == 75
    line = f"gol train: {run} was asked to stop (SIGUSR2); the same command continues it"
    assert capsys.readouterr().err.splitlines()[-1] == line
    assert len(list((run / "checkpoints").iterdir())) == 1
    assert main(train) == 0
    assert "continues after iteration 1" in capsys.readouterr().err

    command = ["detect", str(run), "--out", str(out), "--device", "cpu"]
    ask(shares.ImageShare, "_results")
    assert main(command) == 75
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("gol detect: ") == 1
    assert captured.err.splitlines()[-1].startswith("gol detect: ")
    assert "(SIGUSR2)" in captured.err and "Traceback" not in captured.err
    assert sorted(tmp_path.iterdir()) == [tmp_path / ".d.json.lock", run]
    assert main(command) == 0
    assert capsys.readouterr().out == f"{len(json.loads(out.read_text()))} detections in {out}\n"


#: `gol detect` that receives SIGTERM with its first detections.
TERMINATED = """
import os, signal, sys
from gol.cli import main
from gol.engine import shares
shares.ImageShare._results = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_sigterm_ends_a_verb_as_ever_and_leaves_no_temporary_files(alone, tmp_path):
    out = tmp_path / "d.json"
    command = ("detect", alone, "--out", out, "--device", "cpu")
    code, _, errors = Process("-c", TERMINATED, *command).finish()
    assert code == -signal.SIGTERM and "Traceback" not in errors
    assert [path.name for path in tmp_path.iterdir()] == [".d.json.lock"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with tidy_termination():
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


#: A verb whose main thread is in C, where Python hands it no signal.
COMPUTES = """
import hashlib, sys, threading
from gol.cli import termination
termination._SECONDS = float(sys.argv[1])
with termination.tidy_termination():
    threading.Timer(0.5, print, ["begun"], {"flush": True}).start()
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
"""


@pytest.mark.parametrize(("seconds", "signals"), [(0.2, 1), (600, 2)])
def test_sigterm_ends_a_verb_that_is_in_c(seconds, signals):
    process = subprocess.Popen(
        [sys.executable, "-c", COMPUTES, str(seconds)], stdout=subprocess.PIPE
    )
    try:
        assert process.stdout.readline() == b"begun\n"
        for _ in range(signals):
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
        assert process.wait(20) == 128 + signal.SIGTERM
    finally:
        process.kill()


@pytest.mark.parametrize("hook", ["before", "after_in_parent"])
@pytest.mark.slow
def test_sigterm_during_a_fork_ends_a_verb_tidily(hook):
    """Python ignores what is raised in a hook of a fork, in ours as in another library's."""
    process = Process("-c", FORKS, hook)
    code, out, errors = process.finish(20)
    assert (code, out) == (-signal.SIGTERM, "tidied\n"), errors
    assert "ignored" not in errors


#: Receives SIGTERM while it forks; the child looks for its parent's pipe.
FORKS = """
import os, signal, sys
from gol.cli import termination
hook = {sys.argv[1]: lambda: termination._watch and os.kill(os.getpid(), signal.SIGTERM)}
os.register_at_fork(**hook)
with termination.tidy_termination():
    pipe = termination._watch.reader
    try:
        child = os.fork()
        if not child:
            try:
                os.fstat(pipe)
            except OSError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        import time
        time.sleep(5)
    finally:
        print("tidied", flush=True)
"""


def test_a_forked_process_ends_alone(monkeypatch):
    monkeypatch.setattr("gol.cli.termination._SECONDS", 0.1)
    with tidy_termination():
        child = os.fork()
        if not child:
            time.sleep(60)
            os._exit(0)
        for _ in range(2):  # its parent is told of neither
            os.kill(child, signal.SIGTERM)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM
        time.sleep(0.5)
