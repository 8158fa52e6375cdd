"""Environments of their own: the built wheel, installed with uv where a package index answers."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

UNREACHABLE = ("client error (Connect)", "Network connectivity is disabled", "timed out")


class Environment:
    """A virtual environment beside an empty folder, in which its programs run."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.folder = folder / "work"
        self.folder.mkdir()

    def run(self, program: str, *arguments: object, code: int = 0, **variables: object) -> str:
        """Runs a program of the environment, which must end with ``code``.

        Returns:
            What it printed; of one that fails what it printed as errors.
        """
        # Bytecode of the first program serves the next.
        removed = ("PYTHONPATH", "VIRTUAL_ENV", "PYTHONDONTWRITEBYTECODE")
        kept = {name: value for name, value in os.environ.items() if name not in removed}
        result = subprocess.run(
            [self.bin / program, *map(str, arguments)],
            cwd=self.folder,
            env={**kept, **{name: str(value) for name, value in variables.items()}},
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert result.returncode == code, result.stdout[-3000:] + result.stderr[-3000:]
        return result.stderr if code else result.stdout


@pytest.fixture(scope="session")
def uv(root) -> Callable[..., None]:
    """Runs uv in the project's folder, whose settings it then reads; skips without an index."""
    program = shutil.which("uv", path=Path(sys.executable).parent) or shutil.which("uv")
    if program is None:
        pytest.skip("no uv")
    # What pip finds beside its index, uv finds too; torch of this environment's kind.
    variables = {"UV_FIND_LINKS": os.environ.get("PIP_FIND_LINKS", ""), "UV_HTTP_RETRIES": "1"}
    if torch.__version__.endswith("+cpu"):
        variables["UV_TORCH_BACKEND"] = "cpu"

    def run(*arguments: object) -> None:
        result = subprocess.run(
            [program, *map(str, arguments)],
            cwd=root,
            env={**variables, **os.environ},
            capture_output=True,
            text=True,
            timeout=1200,
        )
        if result.returncode and any(sign in result.stderr for sign in UNREACHABLE):
            pytest.skip(f"no package index answers: {result.stderr.strip().splitlines()[-1]}")
        assert result.returncode == 0, result.stderr

    return run


@pytest.fixture(scope="session")
def wheel(uv, tmp_path_factory) -> Path:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    uv("build", "--wheel", "--out-dir", folder)
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="session")
def install(uv, wheel, tmp_path_factory) -> Iterator[Callable[..., Environment]]:
    """Makes an environment of the wheel with some extras and what else uv is told."""
    folders = []

    def make(extras: str, *arguments: object) -> Environment:
        folders.append(tmp_path_factory.mktemp("environment"))
        venv = folders[-1] / "venv"
        uv("venv", "--python", sys.executable, venv)
        options = ("--python", venv, "--no-compile-bytecode")  # few programs run here
        uv("pip", "install", *options, f"{wheel}{extras}", *arguments)
        return Environment(folders[-1])

    yield make
    for folder in folders:  # gigabytes, where uv's cache is on another disk
        shutil.rmtree(folder)
