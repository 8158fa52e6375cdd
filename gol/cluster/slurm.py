"""Slurm's own commands: what they say about this user's jobs; works without accounting.

Every call has a time limit. All launchers of a user share one answer of ``squeue``, so that a
hundred of them ask no more often than one.
"""

import hashlib
import json
import os
import pwd
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from gol.cluster.home import lent
from gol.cluster.jobs import FINAL, NO_JOB, JobInfo, JobRecord
from gol.cluster.settings import VARIABLES
from gol.files import read_json, write_json

_INTERVAL = 4.0  # seconds between two questions to slurmctld
_LIMIT = 45  # seconds for one call
#: Columns of squeue and their widths; of a comment no more than what is ours.
_FIELDS = {
    "JobID": 20,
    "State": 20,
    "RestartCnt": 12,
    "SubmitTime": 20,
    "Comment": 21,
    "Name": 280,
    "Reason": 120,
    "NodeList": 60,
}


def jobs(name: str, fresh: bool = False) -> list[JobInfo] | None:
    """All jobs of a name at least, also those that ended lately; None if Slurm does not answer.

    Args:
        name: of the jobs that are wanted.
        fresh: ask Slurm rather than take an answer that is a few seconds old.
    """
    from filelock import FileLock, Timeout

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:  # as in a container: squeue would list nothing for a user without a name
        return _parse(_ask(f"--name={name}"))
    mine = f"--user={os.getuid()}"
    try:
        path = _shared_answer()
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{path}.lock", timeout=2 * _LIMIT):
            now = time.time()
            if not fresh and path.exists():
                answer = read_json(path)
                if 0 <= now - answer["time"] < _INTERVAL:
                    return _parse(answer["jobs"])
            lines = _ask(mine)
            write_json(path, {"time": time.time(), "jobs": lines})
            return _parse(lines)
    except Timeout:
        return None
    except Exception:  # no home folder, a full disk, a damaged file: ask without sharing
        return _parse(_ask(mine))


def _shared_answer() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    which = json.dumps([*map(os.environ.get, ("SLURM_CONF", "SLURM_CLUSTERS")), _FIELDS])
    return cache / "gol" / f"squeue-{hashlib.sha256(which.encode()).hexdigest()[:8]}.json"


def _ask(which: str) -> list[str] | None:
    columns = ",".join(f"{name}:{width}" for name, width in _FIELDS.items())
    output = _call("squeue", "--noheader", "--states=all", which, "-O", columns)
    return None if output is None else output.splitlines()


def _parse(lines: list[str] | None) -> list[JobInfo] | None:
    if lines is None:
        return None
    found = []
    for line in lines:
        values, start, raw = {}, 0, line.encode(errors="surrogateescape")
        for name, width in _FIELDS.items():  # counted in bytes
            values[name] = raw[start : start + width].decode(errors="replace").strip()
            start += width
        if not (values["JobID"] and values["SubmitTime"].isdecimal()):
            continue  # the rest of another job's name that has several lines
        found.append(
            JobInfo(
                id=values["JobID"],
                state=values["State"],
                restarts=int(values["RestartCnt"] or 0),
                name=values["Name"],
                reason=values["Reason"],
                submitted=float(values["SubmitTime"]),
                comment=values["Comment"],
                nodes=values["NodeList"],
            )
        )
    return found


def _call(*command: str) -> str | None:
    """A command's output, with times in Unix seconds; None if it failed or took too long."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SQUEUE_")}
    environment["SLURM_TIME_FORMAT"] = "%s"
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="surrogateescape",
            timeout=_LIMIT,
            env=environment,
        )
    except (subprocess.TimeoutExpired, OSError):
        return None
    return done.stdout if done.returncode == 0 else None


def find(record: JobRecord) -> JobInfo | None:
    """The record's job, in state GONE if Slurm has none of it any more; None if it does not answer.

    Its id may be another job's by now.
    """
    found = jobs(record.name)
    if found is None:
        return None
    known = [info for info in found if info.id == record.id]
    for info in known or _accounted(record):
        if record.is_of(info):
            return info
    return NO_JOB._replace(id=record.id or "")


def _accounted(record: JobRecord) -> list[JobInfo]:
    """What the accounting knows of a job that squeue has forgotten; nothing where there is none.

    A job that it believes to be alive is lost: squeue would know of it.
    """
    fields = ("JobID", "Submit", "State", "JobName")
    output = _call("sacct", "-X", "-n", "-P", "-j", str(record.id), "-o", ",".join(fields)) or ""
    found = []
    for line in output.splitlines():
        identity, submitted, state, name = [*line.split("|", 3), "", "", ""][:4]
        state = (state.split() or [""])[0]  # "CANCELLED by 1000"
        if submitted.isdecimal() and state in FINAL:
            found.append(JobInfo(identity, state, name=name, submitted=float(submitted)))
    return found


def shards(partition: str) -> int:
    """The most parts into which Slurm divides a GPU of a partition; 0 where it shares none.

    Args:
        partition: empty for all.
    """
    where = (f"--partition={partition}",) if partition else ()
    found = 0
    for line in (_call("sinfo", "--noheader", "-o", "%G", *where) or "").splitlines():
        gpus, parts = (
            sum(map(int, re.findall(rf"(?:^|,){name}:(?:[^:,(]+:)?(\d+)", line)))
            for name in ("gpu", "shard")
        )
        found = max(found, parts // gpus if gpus else 0)
    return found


def is_over(attempt: str | None) -> bool:
    """Whether Slurm knows that a job, say 7, has ended or was requeued since its attempt 7.0."""
    found = jobs("", fresh=True) if attempt else None
    # A user without a name is told of no job, not even of the one in which this runs.
    return bool(found) and attempt not in {
        f"{info.id}.{info.restarts}" for info in found if info.state not in FINAL
    }


def alive(record: JobRecord) -> list[JobInfo] | None:
    """The record's jobs that have not ended, by name where it lacks the id; None for no answer."""
    found = jobs(record.name, fresh=True)
    return found and [info for info in found if record.is_of(info) and info.state not in FINAL]


def cancel(job: JobInfo) -> bool:
    """Asks Slurm to cancel a job, unless its id has gone to one of another name; whether it did."""
    return _call("scancel", f"--name={job.name}", job.id) is not None


@contextmanager
def clean_environment(stated: Iterable[str] = ()) -> Iterator[None]:
    """Hides the variables of an enclosing Slurm job, but not which Slurm is meant.

    Outside of a job the user's own defaults for sbatch stay too, where an option is not ours. The
    home that this machine lent stays here.

    Args:
        stated: options in the job's script, which sbatch's variables would override.
    """
    from submitit.helpers import clean_env

    inside = "SLURM_JOB_ID" in os.environ
    # By their beginnings, since an option may be abbreviated.
    hidden = tuple(f"SBATCH_{name.replace('-', '_').upper()}" for name in stated)

    def is_default(key: str) -> bool:
        ours = key in VARIABLES or key.startswith(hidden)
        return key.startswith("SBATCH_") and not ours and not inside

    kept = {
        key: value
        for key, value in os.environ.items()
        if key in ("SLURM_CONF", "SLURM_CLUSTERS") or is_default(key)
    }
    with clean_env(lent()):
        os.environ.update(kept)
        yield
