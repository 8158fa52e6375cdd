"""What the shell offers after Tab: the protocol of argcomplete, run as bash's function runs it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import gol
from gol.cli.verbs import VERBS

pytest.importorskip("argcomplete")
GOL = Path(sys.executable).with_name("gol")


def offered(line, folder=None):
    """The words for a line with the cursor at its end; argcomplete writes them to descriptor 8."""
    separator = "\v"
    result = subprocess.run(
        ["bash", "-c", f'exec "{GOL}" 8>&1 9>/dev/null 1>/dev/null'],
        cwd=folder,
        env={
            **os.environ,
            "_ARGCOMPLETE": "1",
            "_ARGCOMPLETE_IFS": separator,
            "_ARGCOMPLETE_SHELL": "bash",
            "COMP_LINE": line,
            "COMP_POINT": str(len(line)),
            "COMP_TYPE": "9",
        },
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    return {word.strip() for word in result.stdout.split(separator) if word}


def test_verbs_and_their_options():
    assert set(VERBS) <= offered("gol ")
    assert offered("gol pre") == {"predict", "preprocess", "pretrained"}
    assert {"--run", "--seed", "--set", "--json"} <= offered("gol config demo/gumbel --")
    assert offered("gol launch run --gpus") == {"--gpus-per-node"}


def test_names():
    assert offered("gol config ") >= set(gol.experiments())
    gumbel = {"demo/gumbel", "demo/gumbel_clamped", "demo/gumbel_exact"}
    assert offered("gol config demo/gum") == gumbel
    assert offered("gol download lvis_v1") == {"lvis_v1_train", "lvis_v1_val"}
    assert offered("gol weights r") == {"r50", "r101"}
    assert "GOL_r50_v1" in offered("gol pretrained GOL")


def test_a_dataset_is_a_name_or_a_yaml_file(tmp_path):
    (tmp_path / "mine.yaml").touch()
    (tmp_path / "mine.json").touch()
    assert offered("gol doctor --dataset ", tmp_path) >= {"lvis_v1", "own", "mine.yaml"}
    assert offered("gol doctor --dataset m", tmp_path) == {"mine.yaml"}


def test_run_folders_are_completed_as_files(tmp_path):
    (tmp_path / "results").mkdir()
    assert offered("gol train res", tmp_path) == {"results/"}
