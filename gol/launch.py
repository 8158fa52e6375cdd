"""Runs a training as a submitit job and waits for it.

The job is a process of its own that outlives the launcher. Started again, the launcher follows a
training that is still alive instead of starting a second one, and a training that was killed
continues from its newest checkpoint.
"""

import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from gol.errors import UserError
from gol.files import read_json, write_json

_POLL = 0.2  # seconds
_FOREVER = 60 * 24 * 365  # minutes: a training ends when it is done


def launch(run: str | Path, device: str | None = None) -> dict[str, Any]:
    """Submits the training of a run folder, follows its log on stderr and waits until it ends.

    Args:
        run: run folder prepared by ``gol config``.
        device: passed on to ``gol.train.train``.

    Returns:
        The content of ``train.json``.

    Raises:
        UserError: the training failed; the message says why, or shows the end of its log.
    """
    from filelock import FileLock

    run = Path(run)
    try:
        (run / "logs").mkdir(parents=True, exist_ok=True)
        lock = FileLock(run / ".launch.lock")
        with lock:
            if not _is_training(run):
                _submit(run, device)
            elif not (run / "job.json").exists():
                raise UserError(f"{run} is being trained by a process that was not launched here")
            return _follow(run)
    except OSError as error:
        raise UserError(f"cannot write {error.filename or run}: {error.strerror}") from error


def _submit(run: Path, device: str | None) -> None:
    import submitit
    from submitit.helpers import clean_env

    executor = submitit.LocalExecutor(folder=run / "logs")
    gpus = _visible_gpus()
    # submitit hides every GPU that is not asked for.
    executor.update_parameters(
        timeout_min=_FOREVER, gpus_per_node=len(gpus), visible_gpus=gpus, stderr_to_stdout=True
    )
    # The variables of an enclosing Slurm job must not reach this one.
    with clean_env():
        job = executor.submit(_run, str(run), device)
    write_json(run / "job.json", {"cluster": "local", "id": job.job_id})


def _visible_gpus() -> list[int]:
    if shutil.which("nvidia-smi") is None:
        return []  # without importing torch, which takes seconds and half a gigabyte
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    chosen = [int(name) for name in named if name.strip().isdigit()]
    return chosen or list(range(torch.cuda.device_count()))


def _run(run: str, device: str | None) -> str | None:
    """The job: trains, and returns what was wrong with the input rather than a traceback."""
    from gol.train import train

    try:
        train(run, device)
    except UserError as error:
        return str(error)
    return None


def _is_training(run: Path) -> bool:
    from filelock import FileLock, Timeout

    try:
        with FileLock(run / ".train.lock", timeout=0):
            return False
    except Timeout:
        return True


def _follow(run: Path) -> dict[str, Any]:
    from submitit import LocalJob

    process = int(read_json(run / "job.json")["id"])
    job = LocalJob(run / "logs", str(process))
    alive, position = True, 0
    try:
        while alive:
            alive = _alive(process)  # asked before the log is read, so that its end is shown
            position = _show(job.paths.stdout, position)
            time.sleep(_POLL if alive else 0)
    except KeyboardInterrupt:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGTERM)
        raise
    return _result(run, job)


def _alive(process: int) -> bool:
    with contextlib.suppress(ChildProcessError):  # a job of an earlier launcher is no child
        if os.waitpid(process, os.WNOHANG)[0] == process:
            return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def _show(log: Path, position: int) -> int:
    """Copies to stderr what the log has gained, without submitit's notices."""
    if not log.exists():
        return position
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(position)
        lines = [line for line in file.read().splitlines(True) if not line.startswith("submitit ")]
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
        raise UserError(
            f"the training of {run} failed: {last} (log: {job.paths.stdout})"
        ) from error
    if problem:
        raise UserError(problem)
    return read_json(run / "train.json")
