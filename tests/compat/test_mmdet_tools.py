"""`gol config NAME` prints a config that stock mmdet 2.x tools train and test with."""

import subprocess
import sys

import pytest

from gol.cli import main


def tool(name, *arguments):
    """A path is trusted here as mmdet 2.x trusts it, which loads whole pickles."""
    command = [sys.executable, "-m", "gol.compat", name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600)


@pytest.mark.slow
def test_a_script_is_a_path_or_one_of_mmdets(tmp_path):
    own = tmp_path / "mine.py"
    own.write_text(
        "import sys, torch\nfrom mmcv.ops import nms\nboxes = torch.tensor([[0.0, 0, 1, 1]])\n"
        "print(*sys.argv, nms(boxes, torch.ones(1), 0.5)[1].tolist())"
    )
    result = tool(own, "a", "--b")
    assert (result.returncode, result.stdout) == (0, f"{own} a --b [0]\n"), result.stderr
    result = tool("trian.py")
    assert result.returncode == 2
    assert "no script trian.py, and in mmdet's tools there are test.py, train.py" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_stock_tools_train_and_test_and_the_weights_fit_ours(tiny_data, tmp_path, capsys):
    settings = ["precision=float32", "runner.max_epochs=1", "data.workers_per_gpu=0"]
    arguments = ["demo/gol", "--data", str(tiny_data), "--set", *settings]
    assert main(["config", *arguments]) == 0
    config = tmp_path / "config.py"
    config.write_text(capsys.readouterr().out)

    trained = tool("train.py", config, "--work-dir", tmp_path / "work")
    assert trained.returncode == 0, trained.stderr[-2000:]
    assert "segm_mAP" in trained.stderr  # evaluated after the last epoch
    weights = tmp_path / "work" / "epoch_1.pth"
    tested = tool("tools/test.py", config, weights, "--out", tmp_path / "results.pkl")
    assert tested.returncode == 0, tested.stderr[-2000:]
    assert (tmp_path / "results.pkl").stat().st_size > 1000

    assert main(["config", *arguments, "--run", str(tmp_path / "run")]) == 0
    out = tmp_path / "detections.json"
    detect = ["detect", str(tmp_path / "run"), "--checkpoint", str(weights), "--out", str(out)]
    assert main(detect) == 0
    assert out.stat().st_size > 1000
