"""Who trains, and with which code: only a repository that holds this package says that."""

import subprocess

import pytest

import gol
from gol.engine.provenance import provenance


def _git(folder, *arguments):
    command = ["git", "-c", "user.name=x", "-c", "user.email=x@y", *arguments]
    return subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A folder in place of the package's own."""
    folder = tmp_path / "site-packages" / "gol"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    monkeypatch.setattr(gol, "__file__", str(folder / "__init__.py"))
    provenance.cache_clear()
    yield folder
    provenance.cache_clear()


def test_a_package_outside_of_git_has_no_commit(package):
    assert {*provenance()} <= {"user"}


def test_the_repository_around_an_environment_is_not_that_of_the_code(package, tmp_path):
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "commit", "-q", "--allow-empty", "-m", "somebody's project")
    assert {*provenance()} <= {"user"}


@pytest.mark.parametrize("changed", [False, True])
def test_a_checkout_has_its_commit_and_says_whether_it_was_changed(package, tmp_path, changed):
    _git(tmp_path, "init", "-q")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "commit", "-q", "-m", "the code")
    if changed:
        (package / "__init__.py").write_text("other = 1")
    found = provenance()
    assert found["commit"] == _git(tmp_path, "rev-parse", "HEAD")
    assert found["dirty"] == str(changed).lower()
