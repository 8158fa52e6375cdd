"""Metrics in MLflow while runs train: a process beside them reads what they write.

A training knows nothing of it, and neither waits nor fails where the server does not answer: what
could not be sent is sent later. ``log_run`` has the last word: the MLflow run that was followed
gives way to that of the finished run, so it can miss or double nothing.
"""

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from gol.config.resolve import fingerprint, read_config
from gol.errors import UserError
from gol.results.runs import read_curve, read_identity
from gol.results.tracking import check_name, experiment_id, find, log_points
from gol.results.tracking_content import (
    config_params,
    curve_points,
    identity_tags,
    milliseconds,
)
from gol.results.tracking_store import connect, tracking_errors, tracking_lock, tracking_uri
from gol.run_folder import RunFolder

_INTERVAL = 10.0  # seconds between two looks
_LIVE = "live"  # in place of the hash of a finished run's content


def follow_runs(
    run_folders: Iterable[str | Path],
    store: str | Path,
    experiment_name: str,
    interval: float = _INTERVAL,
) -> None:
    """Logs the metrics of runs while they train, until all are trained or its parent is gone.

    Args:
        run_folders: runs that train, or will; finished ones are left alone.
        store: as for ``create_tracking_store``, as a rule a server.
        experiment_name: MLflow experiment, created when missing.
        interval: seconds between two looks.

    Raises:
        UserError: the name cannot be an experiment's.
    """
    # What fails is tried again at the next look.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    uri, parent, said = tracking_uri(store), os.getppid(), ""
    check_name(uri, experiment_name)
    runs = [_Followed(RunFolder(folder), uri, experiment_name) for folder in run_folders]
    while runs and os.getppid() == parent:
        problem = ""
        for run in list(runs):
            finished = run.finished
            try:
                run.send()
            except UserError as error:
                problem = str(error)
                run.forget()
            if finished:
                runs.remove(run)
        if problem not in ("", said):
            print(f"{problem}; metrics are sent later", file=sys.stderr, flush=True)
        said = problem
        if runs:
            time.sleep(interval)


def follow_beside(run_folders: Sequence[str], experiment_name: str, log: str | Path) -> None:
    """Follows runs in a process of its own, if ``MLFLOW_TRACKING_URI`` names a server.

    The process ends with this one at the latest.

    Args:
        run_folders: runs that train, or will.
        experiment_name: MLflow experiment.
        log: file for what it has to say.
    """
    if not os.environ.get("MLFLOW_TRACKING_URI", "").startswith(("http://", "https://")):
        return
    Path(log).parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "gol", "track", *run_folders, "--follow"]
    with open(log, "ab") as file:
        process = subprocess.Popen(
            [*command, "--name", experiment_name],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    atexit.register(process.terminate)


class _Followed:
    """A run that trains, and how much of it MLflow is known to have."""

    def __init__(self, run: RunFolder, uri: str, experiment_name: str) -> None:
        self.run, self.uri, self.name = run, uri, experiment_name
        self.sent: set[tuple[int, int]] = set()  # iteration and Unix time in ms
        self.identity: str | None = None
        self.seen: tuple[int, int] | None = None

    @property
    def finished(self) -> bool:
        """Whether the training is done."""
        return self.run.summary.exists()

    def forget(self) -> None:
        """Believes nothing of the MLflow run any more: it may be gone, or have missed something."""
        self.identity, self.seen, self.sent = None, None, set()

    def send(self) -> None:
        """Sends what is new.

        Raises:
            UserError: the server does not answer, or the run's files are damaged.
        """
        try:
            state = self.run.metrics.stat()
        except OSError:
            return  # it has not begun
        if self.seen == (state.st_mtime_ns, state.st_size) or (self.finished and not self.sent):
            return
        curve = {
            (int(point["iteration"]), milliseconds(point["time"])): point
            for point in read_curve(self.run.path)
        }
        if not curve:
            return
        with tracking_errors(self.uri), tracking_lock(self.uri):
            if self.identity is None or not self.sent <= set(curve):
                self._begin(set(curve), min(point["time"] for point in curve.values()))
            new = [point for key, point in curve.items() if key not in self.sent]
            log_points(connect(self.uri), self.identity, list(curve_points(new)))
        self.sent, self.seen = set(curve), (state.st_mtime_ns, state.st_size)

    def _begin(self, there: set[tuple[int, int]], started: float) -> None:
        """Finds the MLflow run or makes one; points that the run's file has no more end it.

        Such are of a training that was killed and went on from its last checkpoint.
        """
        self.sent = set()
        client, who = connect(self.uri), read_identity(self.run)
        tags = identity_tags(who.experiment, who.seed, fingerprint(read_config(self.run.path)))
        experiment = experiment_id(client, self.uri, self.name)
        for known in find(client, experiment, tags):
            if known.data.tags.get("gol.content") != _LIVE:
                continue
            history = client.get_metric_history(known.info.run_id, "train/lr")
            if {(point.step, point.timestamp) for point in history} <= there:
                self.identity = known.info.run_id
                return
            client.delete_run(known.info.run_id)
        name = f"{who.experiment}, seed {who.seed}"
        created = client.create_run(
            experiment,
            start_time=milliseconds(started),
            tags={**tags, "gol.content": _LIVE},
            run_name=name,
        )
        self.identity = created.info.run_id
        log_points(client, self.identity, [], config_params(self.run, who))
