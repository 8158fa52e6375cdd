"""Each patch is needed: without it the old library fails, with it it works."""

import pytest
from fresh import run

# What makes the code work, the code, and the error that comes without.
NEEDS = {
    "numpy.float for lvis": (
        "numpy_aliases",
        "import numpy; numpy.zeros(2).astype(numpy.float)",
        "float",
    ),
    "numpy.int for mmdet": (
        "numpy_aliases",
        "import numpy; numpy.zeros(2).astype(numpy.int)",
        "int",
    ),
    "mmcv._ext for mmdet": ("apply", "import mmdet.models", "mmcv._ext"),
}


SLOW = {"mmcv._ext for mmdet"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NEEDS]
)
def test_patch_is_needed_and_works(name):
    patch, code, error = NEEDS[name]
    if name.startswith("mmcv") and run("import mmcv._ext").returncode == 0:
        pytest.skip("this mmcv-full has compiled ops")
    without = run(code)
    assert without.returncode != 0 and error in without.stderr
    patched = run(f"import gol.compat; gol.compat.{patch}(); {code}")
    assert patched.returncode == 0, patched.stderr


@pytest.mark.slow
def test_the_plug_in_is_quiet():
    result = run("import gol.models")
    assert result.returncode == 0 and result.stderr == "" and result.stdout == ""
