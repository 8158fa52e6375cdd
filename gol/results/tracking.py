"""Run folders into MLflow, one MLflow run for each training, as often as one likes.

Training writes plain files and knows nothing of MLflow; this module copies them into a tracking
store afterwards. That is a sqlite file with a folder ``mlartifacts`` beside it; as ``mlflow.db`` in
the project's root it is what ``mlflow ui`` opens without any option. Everything in it can
be made again from the run folders.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol.config.layout import Figure
from gol.errors import UserError, shown, without_secrets
from gol.files import atomic_path, write_json
from gol.results.runs import Run, read_curve, read_run
from gol.results.tracking_store import (
    connect,
    follow_move,
    patiently,
    sqlite_path,
    tracking_errors,
    tracking_lock,
    tracking_uri,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

_BATCH = 1000  # most metrics that one MLflow call takes
_NAME = re.compile(r"\w[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029]*")
_LONGEST_NAME = 200
_NOT_CURVES = ("time", "iteration", "epoch", "eta_seconds")


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


def log_run(run_folder: str | Path, store: str | Path, experiment_name: str) -> str:
    """Copies a finished run into the tracking store and returns the id of its MLflow run.

    The MLflow run is known by experiment, seed and config fingerprint, and by a hash of the
    folder's content. The same folder again changes nothing; an ingestion that was cut short is
    completed; a run whose files have changed since takes the place of the old one, which MLflow
    keeps among the deleted runs. All times come from the files.

    Metrics: ``train/…`` for the training's numbers at their iteration; ``segm_AP``,
    ``bbox_APr``, … in [0, 1] at the last iteration, with ``_<scoring>`` appended for all scorings
    but the first. Artifacts: the resolved config, the evaluation results, one table of all
    classes (``mlflow.load_table`` reads it) and plots.

    Args:
        run_folder: folder of a trained and scored run, see ``gol.results.runs``.
        store: as for ``create_tracking_store``; created when missing.
        experiment_name: MLflow experiment, created when missing.

    Raises:
        UserError: the folder is incomplete, the tracking store cannot be used, or the name would
            keep the artifacts elsewhere than beside it.
    """
    uri = tracking_uri(store)
    if sqlite_path(uri) is not None:
        _check_name(experiment_name)
    run = read_run(run_folder)
    curve = read_curve(run.folder.path)
    with tempfile.TemporaryDirectory() as folder:
        artifacts = Path(folder)
        _write_artifacts(run, artifacts)
        with tracking_errors(uri), tracking_lock(uri):
            patiently(lambda: _create(uri))
            return patiently(lambda: _ingest(run, curve, artifacts, uri, experiment_name))


def _create(uri: str) -> None:
    """Makes sure that MLflow answers; a new sqlite file appears under its name when complete."""
    path = sqlite_path(uri)
    if path is not None and not path.exists():
        with atomic_path(path) as temporary:
            connect(tracking_uri(temporary)).search_experiments(max_results=1)
    connect(uri).search_experiments(max_results=1)
    if path is not None:
        follow_move(path)


def _ingest(
    run: Run, curve: list[dict[str, float]], artifacts: Path, uri: str, experiment_name: str
) -> str:
    from mlflow.entities import Param

    client = connect(uri)
    experiment_id = _experiment(client, uri, experiment_name)
    run_id = _find_or_create(run, client, experiment_id)
    points = [*_curve_points(curve), *_score_points(run)]
    params = [Param(key, str(value)) for key, value in _params(run).items()]
    for start in range(0, max(len(points), 1), _BATCH):
        client.log_batch(run_id, points[start : start + _BATCH], params if start == 0 else ())
    client.log_artifacts(run_id, str(artifacts))
    client.set_terminated(run_id, "FINISHED", end_time=_milliseconds(run.train.finished))
    return run_id


def _check_name(name: str) -> None:
    """An experiment's name is that of a folder in ``mlartifacts``."""
    if not _NAME.fullmatch(name) or len(name.encode()) > _LONGEST_NAME:
        raise UserError(
            f"--name {shown(name)}: it names a folder, so it must begin with a letter or digit and "
            f"have no / or \\, no control character and at most {_LONGEST_NAME} bytes"
        )


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    """Finds or creates an MLflow experiment; a sqlite file's artifacts go beside it."""
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


def _find_or_create(run: Run, client: "MlflowClient", experiment_id: str) -> str:
    tags = _tags(run)
    if not run.train.fingerprint.isalnum():
        raise UserError(f"{run.folder.summary}: key 'fingerprint' must be a hash")
    known = client.search_runs(
        [experiment_id], filter_string=f"tags.`gol.fingerprint` = '{run.train.fingerprint}'"
    )
    same = None
    for other in known:
        if other.data.tags.get("gol.run") != tags["gol.run"]:
            continue
        if other.data.tags.get("gol.content") == tags["gol.content"]:
            same = other.info.run_id
        else:
            client.delete_run(other.info.run_id)
    if same is not None:
        return same
    created = client.create_run(
        experiment_id,
        start_time=_milliseconds(run.train.started),
        tags=tags,
        run_name=f"{run.identity.experiment}, seed {run.identity.seed}",
    )
    return created.info.run_id


def _tags(run: Run) -> dict[str, str]:
    return {
        "gol.run": f"{run.identity.experiment}/seed{run.identity.seed}",
        "gol.fingerprint": run.train.fingerprint,
        "gol.content": _content(run),
        **{f"version.{name}": version for name, version in run.train.versions.items()},
        **{f"raw_annotations.{k}": digest for k, digest in run.train.raw_annotations.items()},
        # MLflow's interface and load_table find table artifacts by this tag.
        "mlflow.loggedArtifacts": json.dumps([{"path": "per_class.json", "type": "table"}]),
    }


def _params(run: Run) -> dict[str, Any]:
    return {
        "experiment": run.identity.experiment,
        "label": run.identity.label,
        **run.identity.axes,
        "seed": run.identity.seed,
        "scoring": run.primary,
        "iterations": run.train.iterations,
        "parameters": run.train.parameters,
        "device": run.train.device,
    }


def _curve_points(curve: list[dict[str, float]]) -> Iterator["Metric"]:
    from mlflow.entities import Metric

    for point in curve:
        when, step = _milliseconds(point["time"]), int(point["iteration"])
        for key, value in point.items():
            if key not in _NOT_CURVES:
                yield Metric(f"train/{key}", value, when, step)


def _score_points(run: Run) -> Iterator["Metric"]:
    from mlflow.entities import Metric

    when, step = _milliseconds(run.train.finished), run.train.iterations
    for scoring, result in run.evaluations.items():
        suffix = "" if scoring == run.primary else f"_{scoring}"
        for kind in ("segm", "bbox"):
            for name, value in getattr(result, kind).items():
                if value is not None:
                    yield Metric(f"{kind}_{name}{suffix}", float(value), when, step)
    for name in ("seconds", "images_per_second"):
        yield Metric(f"training_{name}", float(getattr(run.train, name)), when, step)


def _write_artifacts(run: Run, folder: Path) -> None:
    from gol.results.class_plots import plot_per_class
    from gol.results.plots import plot_curves, plot_groups
    from gol.results.rows import collect

    for path in _files(run):
        if path.suffix != ".jsonl":
            target = folder / path.relative_to(run.folder.path)
            target.parent.mkdir(exist_ok=True)
            content = path.read_bytes()
            if path == run.folder.config:  # it may say where the backbone's weights come from
                content = without_secrets(content.decode()).encode()
            target.write_bytes(content)
    write_json(folder / "per_class.json", _class_table(run))
    rows = {"": collect([run.folder.path])}
    plot_curves([run.folder.path], rows, folder / "plots" / Figure.CURVES.file)
    plot_groups(rows, folder / "plots" / Figure.GROUPS.file)
    plot_per_class(rows, folder / "plots" / Figure.CLASSES.file)


def _class_table(run: Run) -> dict[str, list]:
    """All classes, one line each, in the format of MLflow's tables."""
    fixed = ["id", "name", "frequency", "image_count"]
    lines = {
        entry.id: [getattr(entry, key) for key in fixed]
        for entry in run.evaluations[run.primary].per_class
    }
    columns = list(fixed)
    for scoring, result in run.evaluations.items():
        suffix = "" if scoring == run.primary else f"_{scoring}"
        columns += [f"segm_AP{suffix}", f"bbox_AP{suffix}"]
        of_class = {entry.id: (entry.segm_AP, entry.bbox_AP) for entry in result.per_class}
        for identity, line in lines.items():
            line += of_class.get(identity, (None, None))
    return {"columns": columns, "data": list(lines.values())}


def _files(run: Run) -> list[Path]:
    folder = run.folder
    scores = [folder.evaluation(scoring) for scoring in run.evaluations]
    return [folder.config, folder.summary, folder.metrics, *scores]


def _content(run: Run) -> str:
    """SHA-256 over the files that are ingested."""
    digest = hashlib.sha256()
    for path in _files(run):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(run.folder.path)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def _milliseconds(seconds: float) -> int:
    return round(1000 * seconds)
