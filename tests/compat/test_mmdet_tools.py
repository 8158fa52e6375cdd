"""`gol config NAME` prints a config that stock mmdet 2.x tools train and test with."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from gol.cli import main

TOOLS = Path(importlib.util.find_spec("mmdet").origin).parent / ".mim/tools"
# Without compiled operators mmdet's tools need ours before they import mmdet; a path is trusted
# here as mmdet 2.x trusts it, which loads whole pickles.
START = (
    "import gol.compat, runpy, sys; gol.compat.apply(); "
    "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
)


def tool(name, *arguments):
    command = [sys.executable, "-c", START, TOOLS / name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_stock_tools_train_and_test_and_the_weights_fit_ours(demo_data, tmp_path, capsys):
    settings = ["gol.precision=float32", "runner.max_epochs=1", "data.workers_per_gpu=0"]
    arguments = ["demo/gol", "--data", str(demo_data), "--set", *settings]
    assert main(["config", *arguments]) == 0
    config = tmp_path / "config.py"
    config.write_text(capsys.readouterr().out)

    trained = tool("train.py", config, "--work-dir", tmp_path / "work", "--no-validate")
    assert trained.returncode == 0, trained.stderr[-2000:]
    weights = tmp_path / "work" / "epoch_1.pth"
    tested = tool("test.py", config, weights, "--out", tmp_path / "results.pkl")
    assert tested.returncode == 0, tested.stderr[-2000:]
    assert (tmp_path / "results.pkl").stat().st_size > 1000

    assert main(["config", *arguments, "--run", str(tmp_path / "run")]) == 0
    out = tmp_path / "detections.json"
    detect = ["detect", str(tmp_path / "run"), "--checkpoint", str(weights), "--out", str(out)]
    assert main(detect) == 0
    assert out.stat().st_size > 1000
