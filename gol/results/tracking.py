"""Run folders into MLflow, one MLflow run for each training, as often as one likes.

Training writes plain files and knows nothing of MLflow; this module copies them into a tracking
store afterwards. That is a sqlite file with a folder ``mlartifacts`` beside it; as ``mlflow.db`` in
the project's root it is what ``mlflow ui`` opens without any option. Everything in it can
be made again from the run folders.
"""

import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gol.errors import UserError, shown
from gol.files import atomic_path
from gol.results.runs import Run, read_curve, read_run
from gol.results.tracking_content import (
    curve_points,
    datasets,
    milliseconds,
    run_params,
    run_tags,
    score_points,
    write_artifacts,
)
from gol.results.tracking_store import (
    connect,
    follow_move,
    patiently,
    sqlite_path,
    tracking_errors,
    tracking_lock,
    tracking_page,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import DatasetInput, Metric
    from mlflow.entities import Run as MlflowRun

_BATCH = 1000  # most metrics that one MLflow call takes
_NAME = re.compile(r"\w[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]*")
_LONGEST_NAME = 200


def create_tracking_store(store: str | Path) -> str:
    """Creates an MLflow tracking store unless it is there, and returns its URI.

    Args:
        store: path of a sqlite file (created with its folder), or an MLflow tracking URI such as
            ``sqlite:///mlflow.db`` or ``http://host:5000``.

    Raises:
        UserError: the path is a folder, is not an MLflow database, or cannot be written; the server
            does not answer.
    """
    uri = tracking_uri(store)
    with tracking_errors(uri), tracking_lock(uri):
        patiently(lambda: _create(uri))
    return uri


def page_of(store: str | Path, experiment_name: str) -> str:
    """The address of the list of an experiment's runs in MLflow's interface.

    Raises:
        UserError: the tracking store cannot be used.
    """
    uri = tracking_uri(store)
    with tracking_errors(uri), tracking_lock(uri):
        return tracking_page(uri, experiment_id(connect(uri), uri, experiment_name))


@dataclass(frozen=True)
class Entry:
    """What becomes one MLflow run.

    Attributes:
        name: what lists call it.
        tags: with ``gol.run`` and ``gol.fingerprint``, by which it is found again, and
            ``gol.content``, a hash of all that is logged.
        params: parameters.
        points: metrics.
        inputs: data sets.
        started: Unix time.
        finished: Unix time.
        artifacts: folder of what belongs to it.
    """

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    points: "list[Metric]"
    started: float
    finished: float
    artifacts: Path
    inputs: "list[DatasetInput]" = field(default_factory=list)


def log_run(run_folder: str | Path, store: str | Path, experiment_name: str) -> str:
    """Copies a finished run into the tracking store and returns the id of its MLflow run.

    The MLflow run is known by experiment, seed and config fingerprint, and by a hash of the
    folder's content. The same folder again changes nothing; an ingestion that was cut short is
    completed; a run whose files have changed since, that was followed while it trained, or that an
    older version of this package has logged gives way to a new one: MLflow keeps it among the
    deleted runs. All times come from the files.

    Metrics: ``segm_AP``, ``bbox_APr``, … in [0, 1] at the last iteration, with ``_<scoring>``
    appended for all scorings but the first; ``train/…`` for the training's numbers at their
    iteration; ``gpu_hours`` or ``cpu_hours``, ``energy_kwh`` and ``peak_memory_gb`` of the training
    and its detections together, as far as they are known. Artifacts: the resolved config, the
    evaluation results, what each start took, one table of all classes (``mlflow.load_table`` reads
    it) and plots.

    Args:
        run_folder: folder of a trained and scored run, see ``gol.results.runs``.
        store: as for ``create_tracking_store``; created when missing.
        experiment_name: MLflow experiment, created when missing.

    Raises:
        UserError: the folder is incomplete, the tracking store cannot be used, or the name would
            keep the artifacts elsewhere than beside it.
    """
    uri = tracking_uri(store)
    check_name(uri, experiment_name)
    run = read_run(run_folder)
    curve = read_curve(run.folder.path)
    with tempfile.TemporaryDirectory() as folder:
        write_artifacts(run, Path(folder))
        return log_entry(_entry(run, curve, Path(folder)), uri, experiment_name)


def _entry(run: Run, curve: list[dict[str, float]], artifacts: Path) -> Entry:
    if not run.train.fingerprint.isalnum():
        raise UserError(f"{run.folder.summary}: key 'fingerprint' must be a hash")
    return Entry(
        name=f"{run.identity.experiment}, seed {run.identity.seed}",
        tags=run_tags(run),
        params=run_params(run),
        points=[*score_points(run), *curve_points(curve)],
        started=run.train.started,
        finished=run.train.finished,
        artifacts=artifacts,
        inputs=datasets(run),
    )


def log_entry(entry: Entry, uri: str, experiment_name: str) -> str:
    """Creates or completes an MLflow run, and returns its id.

    Raises:
        UserError: the tracking store cannot be used.
    """
    with tracking_errors(uri), tracking_lock(uri):
        patiently(lambda: _create(uri))
        return patiently(lambda: _ingest(entry, uri, experiment_name))


def _create(uri: str) -> None:
    """Makes sure that MLflow answers; a new sqlite file appears under its name when complete."""
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        with atomic_path(path) as temporary:
            connect(tracking_uri(temporary)).search_experiments(max_results=1)
    connect(uri).search_experiments(max_results=1)
    if path is not None:
        follow_move(path)


def _ingest(entry: Entry, uri: str, experiment_name: str) -> str:
    client = connect(uri)
    experiment = experiment_id(client, uri, experiment_name)
    run_id = _find_or_create(entry, client, experiment)
    log_points(client, run_id, entry.points, entry.params)
    if entry.inputs:
        client.log_inputs(run_id, entry.inputs)
    client.log_artifacts(run_id, str(entry.artifacts))
    client.set_terminated(run_id, "FINISHED", end_time=milliseconds(entry.finished))
    return run_id


def log_points(
    client: "MlflowClient",
    run_id: str,
    points: "list[Metric]",
    params: Mapping[str, str] | None = None,
) -> None:
    """Logs metrics, in as many calls as it takes, and parameters; what is there already stays."""
    from mlflow.entities import Param

    entries = [Param(key, value) for key, value in (params or {}).items()]
    for start in range(0, max(len(points), 1), _BATCH):
        client.log_batch(run_id, points[start : start + _BATCH], entries if start == 0 else ())


def check_name(uri: str, name: str) -> None:
    """Refuses what cannot be a folder in ``mlartifacts``, as the name of an experiment is.

    Raises:
        UserError: in one line.
    """
    if sqlite_path(uri) is None:
        return
    if not _NAME.fullmatch(name) or len(name.encode()) > _LONGEST_NAME:
        raise UserError(
            f"--name {shown(name)}: it names a folder, so it must begin with a letter or digit and "
            f"have no / or \\, no control character and at most {_LONGEST_NAME} bytes"
        )


def experiment_id(client: "MlflowClient", uri: str, name: str) -> str:
    """Finds or creates an MLflow experiment; a sqlite file's artifacts go beside it.

    Raises:
        UserError: its artifacts are elsewhere.
    """
    database = sqlite_path(uri)
    location = database and (database.parent / "mlartifacts" / name).as_uri()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return client.create_experiment(name, artifact_location=location)
    if location not in (None, experiment.artifact_location):
        raise UserError(
            f"{database}: experiment {name} keeps its files in {experiment.artifact_location},"
            f" not in {location}: was the store moved? Delete it and track the runs again"
        )
    return experiment.experiment_id


def find(client: "MlflowClient", experiment: str, tags: dict[str, str]) -> list["MlflowRun"]:
    """The MLflow runs of an experiment's id with the same ``gol.run`` and ``gol.fingerprint``."""
    known = client.search_runs(
        [experiment], filter_string=f"tags.`gol.fingerprint` = '{tags['gol.fingerprint']}'"
    )
    return [run for run in known if run.data.tags.get("gol.run") == tags["gol.run"]]


def _find_or_create(entry: Entry, client: "MlflowClient", experiment: str) -> str:
    same = None
    for other in find(client, experiment, entry.tags):
        if other.data.tags.get("gol.content") == entry.tags["gol.content"]:
            same = other.info.run_id
        else:
            client.delete_run(other.info.run_id)
    if same is not None:
        return same
    created = client.create_run(
        experiment,
        start_time=milliseconds(entry.started),
        tags=entry.tags,
        run_name=entry.name,
    )
    return created.info.run_id
