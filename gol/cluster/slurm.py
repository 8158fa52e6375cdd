"""Slurm's own commands: what they say about this user's jobs; works without accounting.

Every call has a time limit. All launchers of a user share one answer of ``squeue``, so that a
hundred of them ask no more often than one.
"""

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gol.cluster.jobs import FINAL, GONE, JobInfo
from gol.errors import UserError
from gol.files import read_json, write_json

_INTERVAL = 4.0  # seconds between two questions to slurmctld
_LIMIT = 45  # seconds for one call
_FIELDS = {"JobID": 20, "State": 20, "RestartCnt": 12, "Name": 80, "Reason": 60}


def jobs(fresh: bool = False) -> list[JobInfo] | None:
    """This user's jobs, also those that ended lately; None if Slurm does not answer.

    Args:
        fresh: ask Slurm rather than take an answer that is a few seconds old.

    Raises:
        UserError: there is no squeue on this machine.
    """
    from filelock import FileLock, Timeout

    path = _shared_answer()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=2 * _LIMIT):
            now = time.time()
            if not fresh and path.exists():
                answer = read_json(path)
                if 0 <= now - answer["time"] < _INTERVAL:
                    return _parse(answer["jobs"])
            lines = _ask()
            write_json(path, {"time": time.time(), "jobs": lines})
            return _parse(lines)
    except Timeout:
        return None
    except Exception:  # no home folder, a full disk, a damaged file: ask without sharing
        return _parse(_ask())


def _shared_answer() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    which = json.dumps([os.environ.get(name) for name in ("SLURM_CONF", "SLURM_CLUSTERS")])
    return cache / "gol" / f"squeue-{hashlib.sha256(which.encode()).hexdigest()[:8]}.json"


def _ask() -> list[str] | None:
    if shutil.which("squeue") is None:  # waiting for an answer would never end
        raise UserError("squeue is not installed here, so jobs of Slurm cannot be followed")
    columns = ",".join(f"{name}:{width}" for name, width in _FIELDS.items())
    output = _call("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "-O", columns)
    return None if output is None else output.splitlines()


def _parse(lines: list[str] | None) -> list[JobInfo] | None:
    if lines is None:
        return None
    found = []
    for line in lines:
        values, start = [], 0
        for width in _FIELDS.values():
            values.append(line[start : start + width].strip())
            start += width
        identity, state, restarts, name, reason = values
        found.append(JobInfo(identity, state, int(restarts or 0), name, reason))
    return found


def _call(*command: str) -> str | None:
    """A command's output, or None if it failed or took too long."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT, env=environment
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
    return done.stdout if done.returncode == 0 else None


def job(identity: str, fresh: bool = False) -> JobInfo | None:
    """One job, in state GONE if Slurm has forgotten it; None if Slurm does not answer."""
    found = jobs(fresh)
    if found is None:
        return None
    for info in found:
        if info.id == identity:
            return info
    recorded = _call("sacct", "-X", "-n", "-P", "-j", identity, "-o", "State") or ""
    words = recorded.split()  # "CANCELLED by 1000"; nothing without accounting
    return JobInfo(identity, words[0] if words else GONE, 0, "", "")


def alive_under(name: str) -> list[JobInfo] | None:
    """This user's jobs of a name that have not ended; None if Slurm does not answer."""
    found = jobs(fresh=True)
    return found and [info for info in found if info.name == name and info.state not in FINAL]


def cancel(identity: str) -> bool:
    """Asks Slurm to cancel a job; whether it took the wish."""
    return _call("scancel", identity) is not None


@contextmanager
def clean_environment() -> Iterator[None]:
    """Hides the variables of an enclosing Slurm job, but not which Slurm is meant.

    Outside of a job the user's own defaults for sbatch stay too.
    """
    from submitit.helpers import clean_env

    inside = "SLURM_JOB_ID" in os.environ
    kept = {
        key: value
        for key, value in os.environ.items()
        if key in ("SLURM_CONF", "SLURM_CLUSTERS") or (key.startswith("SBATCH_") and not inside)
    }
    with clean_env():
        os.environ.update(kept)
        yield
