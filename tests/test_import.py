"""The package's names and what importing them loads."""

import subprocess
import sys
from pathlib import Path

import pytest

import gol


def test_importing_the_losses_needs_only_torch():
    heavy = ("mmdet", "mmcv", "mlflow", "snakemake", "matplotlib", "submitit", "lvis")
    code = (
        "import sys, gol; assert 'torch' not in sys.modules;"
        "gol.gumbel_cross_entropy, gol.losses.GumbelCE, gol.activations.ACTIVATIONS;"
        "from gol import losses; assert losses is gol.losses and 'losses' in dir(gol);"
        f"print([name for name in {heavy} if name in sys.modules], gol.__version__)"
    )
    root = Path(gol.__file__).parent.parent
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert result.stdout.split("\n")[0] == f"[] {gol.__version__}"


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'gumbel'"):
        gol.gumbel  # noqa: B018


def test_rooms_import_only_from_those_below(root):
    """The contracts of .importlinter."""
    result = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "2 kept, 0 broken" in result.stdout, result.stdout[-3000:]
