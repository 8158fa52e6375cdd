"""What the packaging files say of each other, of the package's imports and of the README."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

import gol

BASE = ("gol/__init__.py", "gol/errors.py", "gol/activations.py", "gol/losses", "gol/calibration")


@pytest.fixture(scope="module")
def project(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def pins(root):
    lines = (root / "constraints.txt").read_text().splitlines()
    requirements = [Requirement(line) for line in lines]
    assert all(re.fullmatch(r"==[^*,]+", str(item.specifier)) for item in requirements)
    assert not [item for item in requirements if item.url]
    return {item.name: str(item.specifier).removeprefix("==") for item in requirements}


def declared(project, *extras):
    """Canonical names of the packages of the base and some extras."""
    lines = list(project["project"]["dependencies"])
    for extra in extras:
        lines += project["project"]["optional-dependencies"][extra]
    return {canonicalize_name(Requirement(line).name) for line in lines}


PACKAGES = packages_distributions()


def undeclared(path, allowed):
    """What a file imports, at the top or later, that none of the allowed packages brings."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add(node.module.partition(".")[0])
    return {
        name
        for name in names - {*sys.stdlib_module_names, "gol"}
        if not {canonicalize_name(other) for other in PACKAGES.get(name, [])} & allowed
    }


def test_each_import_is_declared(project, root):
    everything = declared(project, "detection", "pipeline")
    for path in (root / "gol").rglob("*.py"):
        assert not undeclared(path, everything), path


def test_the_losses_import_the_base_alone(project, root):
    paths = [path for name in BASE for path in [root / name, *(root / name).rglob("*.py")]]
    for path in (path for path in paths if path.is_file()):
        assert not undeclared(path, declared(project)), path
    assert declared(project) == {"torch", "numpy"}


def test_the_constraints_pin_each_direct_dependency_within_its_range(project, pins):
    lines = list(project["project"]["dependencies"])
    lines += [
        item for extra in project["project"]["optional-dependencies"].values() for item in extra
    ]
    lines += project["dependency-groups"]["dev"]
    for requirement in map(Requirement, lines):
        if requirement.name != "gol":
            assert pins[canonicalize_name(requirement.name)] in requirement.specifier


def test_this_environment_has_the_pinned_versions(project, pins):
    for name in declared(project, "detection", "pipeline"):
        assert version(name).partition("+")[0] == pins[name], f"{name}: `make` installs the pins"


def hand_commands(readme):
    """The README's commands to set up without make: the block that makes a venv."""
    (block,) = [block for block in readme.split("```")[1::2] if "-m venv .venv" in block]
    return [line for line in block.strip().splitlines() if line.startswith((".venv/bin", "python"))]


def test_readme_makefile_and_dockerfile_install_alike(root):
    hand = hand_commands((root / "README.md").read_text())
    make = subprocess.run(
        ["make", "--dry-run", "--always-make", ".venv/.ready", "PYTHON=python3.11"],
        cwd=root,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert hand[0] in make
    (pip,) = [line for line in hand if "pip install uv==" in line]
    assert pip.removeprefix(".venv/bin/pip ") in make.replace("--quiet ", "")
    (uv,) = [line for line in hand if ".venv/bin/uv pip install" in line]
    (last,) = [line for line in make.splitlines() if "--group dev" in line]
    assert last.strip() == uv.replace("install", "install --quiet")
    docker = (root / "Dockerfile").read_text()
    runs = re.findall(r"^RUN (.+)$", docker, re.M)
    assert runs == [line.replace(" --group dev", "") for line in (hand[0], pip, uv)]


@pytest.mark.slow
def test_the_image_has_what_the_workflow_needs(root, tmp_path):
    """The package and a dry run from nothing but what .dockerignore lets in."""
    lines = (root / ".dockerignore").read_text().splitlines()
    assert "*" in lines
    for name in [line[1:] for line in lines if line.startswith("!")]:
        (tmp_path / name).symlink_to(root / name)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    code = "import gol; gol.losses; print(len(gol.experiments()), gol.__file__)"
    count, file = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert int(count) == len(gol.experiments()) and file.startswith(str(tmp_path))
    result = subprocess.run(
        [Path(sys.executable).parent / "snakemake", "--dry-run", "reproduce_table"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0 and "reproduce_table" in result.stdout, result.stderr


def test_versions_and_citation(project, root):
    citation = yaml.safe_load((root / "CITATION.cff").read_text())
    assert project["project"]["version"] == gol.__version__ == citation["version"]
    assert citation["license"] == project["project"]["license"]
    names = [author["family-names"] for author in citation["preferred-citation"]["authors"]]
    assert names == ["Alexandridis", "Deng", "Nguyen", "Luo"]


def test_the_public_ci_runs_each_python_that_the_wheel_allows(project, root):
    job = yaml.safe_load((root / ".github/workflows/ci.yml").read_text())["jobs"]["test"]
    allowed = SpecifierSet(project["project"]["requires-python"])
    minors = [f"3.{minor}" for minor in range(8, 20) if f"3.{minor}" in allowed]
    assert job["strategy"]["matrix"]["python"] == minors
    (step,) = [step["run"] for step in job["steps"] if "run" in step]
    assert step.endswith(" .ci/run") and os.access(root / ".ci/run", os.X_OK)


FAKE_UV = """#!/bin/sh
echo "$UV_TORCH_BACKEND|$*" >> {log}
case "$*" in *--dry-run*) exit {probe};; esac
"""


@pytest.mark.parametrize("found", [None, "nvidia-smi", "sbatch"])
@pytest.mark.parametrize("answers", [True, False])
@pytest.mark.parametrize("chosen", [None, "cu130"])
def test_make_takes_torch_for_the_cpu_only_where_no_gpu_can_be(
    root, tmp_path, found, answers, chosen
):
    """The Makefile's choice, with a uv that only writes down how it was called."""
    programs = tmp_path / "programs"
    programs.mkdir()
    for name in ("sh", "touch", "make", "echo"):
        (programs / name).symlink_to(shutil.which(name))
    for name in filter(None, [found, "python"]):
        (programs / name).write_text("#!/bin/sh\n")
        (programs / name).chmod(0o755)
    (tmp_path / ".venv/bin").mkdir(parents=True)
    (tmp_path / ".venv/bin/python").symlink_to(programs / "python")
    fake = tmp_path / "uv"
    fake.write_text(FAKE_UV.format(log=tmp_path / "log", probe=0 if answers else 1))
    fake.chmod(0o755)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, tmp_path)
    subprocess.run(
        ["make", ".venv/.ready", "PYTHON=python", f"UV={fake}"],
        cwd=tmp_path,
        env={"PATH": str(programs), **({"UV_TORCH_BACKEND": chosen} if chosen else {})},
        check=True,
    )
    *probes, install = (tmp_path / "log").read_text().splitlines()
    asked = found is None and chosen is None
    assert len(probes) == asked and all(probe.startswith("cpu|") for probe in probes)
    assert install.partition("|")[0] == (chosen or ("cpu" if asked and answers else ""))
    assert install.endswith("-c constraints.txt --group dev -e .[all]")


def test_each_promise_of_security_names_tests_that_there_are(root):
    text = (root / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    promises = text.partition("| promise | test |")[2].partition("\n\n")[0]
    assert all("::test_" in line for line in promises.splitlines()[2:])
    assert len(named) > 10
    for path, name in named:
        assert f"def {name}(" in (root / path).read_text(), (path, name)


@pytest.mark.parametrize("place", ["elsewhere", "copied", "linked", "same"])
def test_make_renews_the_environment_of_a_folder_that_was_moved(root, tmp_path, place):
    """Known by its folder, whatever path leads there: tasks may be running in it."""
    (tmp_path / "copied/.venv").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(tmp_path)
    (tmp_path / ".venv").mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, tmp_path)
    moved = place in ("elsewhere", "copied")
    named = (tmp_path if place == "same" else tmp_path / place) / ".venv"
    (tmp_path / ".venv/pyvenv.cfg").write_text(f"command = python -m venv --clear {named}\n")
    (tmp_path / ".venv/.ready").touch()
    command = ["make", "--dry-run", "table", "PYTHON=python"]
    steps = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    assert ("python -m venv .venv --clear" in steps) == moved
    assert (".venv/bin/gol store" in steps) == moved and "snakemake reproduce_table" in steps
