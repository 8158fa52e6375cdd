"""Each patch is needed: without it the old library fails, with it it works."""

import subprocess
import sys

import pytest

# Code that the patch makes work, and the error that comes without it.
NEEDS = {
    "numpy.float for lvis": ("import numpy as np; np.zeros(2).astype(dtype=np.float)", "float"),
    "numpy.int for mmdet": ("import numpy as np; np.zeros(2).astype(np.int)", "int"),
    "mmcv._ext for mmdet": ("import mmdet.models", "mmcv._ext"),
}


def run(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize("name", NEEDS)
def test_patch_is_needed_and_works(name):
    code, error = NEEDS[name]
    if name.startswith("mmcv") and run("import mmcv._ext").returncode == 0:
        pytest.skip("this mmcv-full has compiled ops")
    without = run(code)
    assert without.returncode != 0 and error in without.stderr
    patched = run(f"import gol.compat; gol.compat.apply(); {code}")
    assert patched.returncode == 0, patched.stderr


def test_the_plug_in_is_quiet():
    result = run("import gol.models")
    assert result.returncode == 0 and result.stderr == "" and result.stdout == ""
