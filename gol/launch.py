"""Runs a training as a submitit job and waits for it.

The job is a process of its own, so a launcher that is killed does not take it along. Started again,
the launcher follows a job that is still alive instead of starting a second one, and a training
that was killed continues from its newest checkpoint.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gol.errors import UserError
from gol.files import read_json, write_json

_POLL = 0.2  # seconds
_FOREVER = 60 * 24 * 365  # minutes: a training ends when it is done
_GPUS = "CUDA_VISIBLE_DEVICES"


def launch(run: str | Path, device: str | None = None) -> dict[str, Any]:
    """Submits the training of a run folder, follows its log on stderr and waits until it ends.

    Args:
        run: run folder prepared by ``gol config``.
        device: passed on to ``gol.train.train``.

    Returns:
        The content of ``train.json``.

    Raises:
        UserError: no such run, or the training failed; the message says why or where its log is.
        KeyboardInterrupt: passed on after the job was stopped.
    """
    from filelock import FileLock

    run = Path(run)
    read_json(run / "config.json")
    try:
        with FileLock(run / ".launch.lock"):
            job = _running(run) or _submit(run, device)
            return _follow(run, job)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or run}: {error.strerror}") from error


def _submit(run: Path, device: str | None) -> dict[str, Any]:
    import submitit
    from submitit.helpers import clean_env

    executor = submitit.LocalExecutor(folder=run / "logs")
    executor.update_parameters(timeout_min=_FOREVER, stderr_to_stdout=True)
    # The variables of an enclosing Slurm job must not reach this one.
    with clean_env():
        submitted = executor.submit(_run, str(run), device, os.environ.get(_GPUS))
    process = int(submitted.job_id)
    job = {"cluster": "local", "id": process, "started": _started(process)}
    write_json(run / "job.json", job)
    return job


def _run(run: str, device: str | None, gpus: str | None) -> str | None:
    """The job: trains, and returns what was wrong with the input rather than a traceback."""
    # submitit hides the GPUs that were not asked for by number; the user's choice stands.
    os.environ.pop(_GPUS, None)
    if gpus is not None:
        os.environ[_GPUS] = gpus
    from gol.train import train

    try:
        train(run, device)
    except UserError as error:
        return str(error)
    return None


def _running(run: Path) -> dict[str, Any] | None:
    """The job of an earlier launcher, if it is alive."""
    if not (run / "job.json").exists():
        return None
    job = read_json(run / "job.json")
    return job if _alive(job) else None


def _started(process: int) -> float | None:
    """When a process started (Unix seconds), None if it is gone: ids alone are used again."""
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        found = psutil.Process(process)
        if found.status() != psutil.STATUS_ZOMBIE:
            return found.create_time()
    return None


def _alive(job: dict[str, Any]) -> bool:
    return job["started"] is not None and _started(job["id"]) == job["started"]


def _follow(run: Path, job: dict[str, Any]) -> dict[str, Any]:
    from submitit import LocalJob

    followed = LocalJob(run / "logs", str(job["id"]))
    alive, position = True, 0
    try:
        while alive:
            alive = _alive(job)  # asked before the log is read, so that its end is shown
            position = _show(followed.paths.stdout, position)
            time.sleep(_POLL if alive else 0)
    except KeyboardInterrupt:
        _stop(job)
        raise
    return _result(run, followed)


def _stop(job: dict[str, Any]) -> None:
    """Interrupts the job's controller, which ends the training, and waits until it is gone."""
    if _alive(job):
        os.kill(job["id"], signal.SIGINT)
    while _alive(job):
        time.sleep(_POLL)


def _show(log: Path, position: int) -> int:
    """Copies to stderr what the log has gained, without submitit's notices."""
    if not log.exists():
        return position
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(position)
        lines = [line for line in file.read().splitlines(True) if not line.startswith("submitit ")]
        with contextlib.suppress(BrokenPipeError):  # nobody looks any more; the job goes on
            sys.stderr.write("".join(lines))
            sys.stderr.flush()
        return file.tell()


def _result(run: Path, job: Any) -> dict[str, Any]:
    if not job.paths.result_pickle.exists():
        raise UserError(f"the training of {run} was killed; the same command continues it")
    try:
        problem = job.result()
    except Exception as error:
        last = str(error).strip().splitlines()[-1]
        log = job.paths.stdout
        raise UserError(f"the training of {run} failed: {last} (log: {log})") from error
    if problem:
        raise UserError(problem)
    return read_json(run / "train.json")
