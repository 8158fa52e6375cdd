"""Users that the system does not know, and homes that cannot be written."""

import atexit
import os
import tempfile

import pytest
import submitit.helpers  # noqa: F401  (a stranger may not be able to read the environment)

from gol.cluster.home import supply_home
from gol.cluster.slurm import clean_environment


@pytest.fixture
def as_stranger():
    """Runs a function as a user without an entry in the system's list; whether it returned true."""
    if os.geteuid():
        pytest.skip("only root can become another user")

    def run(function):
        child = os.fork()
        if not child:
            good = False
            try:
                os.setuid(54321)
                for name in ("HOME", "USER", "LOGNAME", "LNAME", "USERNAME", "MPLCONFIGDIR"):
                    os.environ.pop(name, None)
                good = function()
            finally:
                os._exit(0 if good else 1)
        return os.waitpid(child, 0)[1] == 0

    return run


def test_a_user_without_name_and_home_gets_both(as_stranger):
    import getpass
    from pathlib import Path

    def check():
        supply_home()
        home = Path.home()
        return (
            getpass.getuser() == "user54321"
            and os.access(home, os.W_OK)
            and os.environ["MPLCONFIGDIR"] == str(home)
            and home.stat().st_mode & 0o777 == 0o700
            and not home.rmdir()
        )

    assert as_stranger(check)


def test_a_home_that_cannot_be_written_keeps_its_place(as_stranger):
    def check():
        os.environ["HOME"] = "/proc"
        supply_home()
        return os.environ["HOME"] == "/proc" and not os.rmdir(os.environ["MPLCONFIGDIR"])

    assert as_stranger(check)


def test_processes_of_a_user_share_a_home_that_no_job_inherits(as_stranger):
    def check():
        supply_home()
        first = os.environ.pop("HOME")
        supply_home()
        with clean_environment():
            inherited = {"HOME", "MPLCONFIGDIR"} & {*os.environ}
        return os.environ["HOME"] == first and not inherited and not os.rmdir(first)

    assert as_stranger(check)


@pytest.mark.parametrize("kind", ["open to all", "a link", "no folder", "not to be written"])
def test_a_name_that_is_taken_makes_a_home_of_this_process_s_own(as_stranger, tmp_path, kind):
    place = tmp_path / "gol-54321"

    def check():
        if kind == "open to all":
            place.mkdir()
            place.chmod(0o777)
        elif kind == "a link":
            place.symlink_to("/tmp")
        elif kind == "no folder":
            place.write_text("")
        tempfile.tempdir = str(tmp_path)
        supply_home()
        if kind == "not to be written":
            return not {"HOME", "MPLCONFIGDIR"} & {*os.environ}
        home = os.environ["HOME"]
        good = os.stat(home).st_mode & 0o777 == 0o700 and home.startswith(f"{place}-")
        atexit._run_exitfuncs()
        return good and not os.path.exists(home) and os.path.lexists(place)

    folder = tmp_path
    while kind != "not to be written" and folder.name:
        folder.chmod(folder.stat().st_mode | (0o777 if folder == tmp_path else 0o011))
        folder = folder.parent
    assert as_stranger(check)


def test_a_home_that_can_be_written_is_left_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MPLCONFIGDIR", raising=False)
    supply_home()
    assert "MPLCONFIGDIR" not in os.environ and not list(tmp_path.iterdir())
