"""A pipeline in MLflow: its table and figures on one run, and below it its rows and their seeds.

::

    demo                    table, figures, report
    ├── demo/gumbel         mean and standard deviation over the seeds
    │   ├── demo/gumbel, seed 0
    │   └── demo/gumbel, seed 1
    └── …

A row of one seed is that seed's run itself. MLflow folds this tree where it sorts by time and shows
all runs in one list where it sorts by a metric.
"""

import hashlib
import re
import shutil
import statistics
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gol.config.layout import DIFFERENCES
from gol.errors import UserError
from gol.results import quoting
from gol.results.difference_file import Compared, read_differences
from gol.results.runs import Run, read_runs
from gol.results.tracking import (
    Entry,
    check_name,
    create_tracking_store,
    experiment_id,
    find,
    log_entry,
    log_run,
)
from gol.results.tracking_content import (
    NOTE,
    PARENT,
    content_hash,
    cost_points,
    difference_points,
    files_hash,
    run_params,
    run_tags,
    score_points,
)
from gol.results.tracking_store import connect, tracking_errors, tracking_lock, tracking_uri

if TYPE_CHECKING:
    from mlflow.entities import Metric

_LONGEST_NOTE = 5000  # characters that every version of MLflow takes
_PIPELINE = "gol.pipeline"  # tag of what this module makes: the folder of the results
_REPORT = ("table.md", "table.csv", "table.tex", "report.html")


def log_pipeline(
    run_folders: Iterable[str | Path],
    store: str | Path,
    experiment_name: str,
    results: str | Path,
    differences: str | Path | None = None,
) -> str:
    """Logs the runs of a pipeline that are not logged yet, and what belongs to them together.

    A second time changes nothing.

    Args:
        run_folders: trained and scored runs.
        store: as for ``create_tracking_store``.
        experiment_name: MLflow experiment.
        results: folder with ``table.md`` and, if they are there, ``figures`` and ``report.html``.
        differences: ``differences.json`` of these runs, which is logged too, with its ``.md`` and
            ``.csv``.

    Returns:
        The id of the pipeline's MLflow run.

    Raises:
        UserError: a run or the table is missing, the tracking store cannot be used, or
            ``differences`` is another file.
    """
    check_name(tracking_uri(store), experiment_name)
    uri, results = create_tracking_store(store), Path(results)
    rows: dict[str, list[Run]] = {}
    for run in read_runs(run_folders):
        rows.setdefault(run.identity.experiment, []).append(run)
    compared = read_differences(differences, rows) if differences else []
    ids = {
        name: [_logged(run, uri, experiment_name) for run in runs] for name, runs in rows.items()
    }
    parent = _log_together(results, differences, rows, uri, experiment_name)
    made = {parent}
    links = {}
    for name, runs in rows.items():
        row = parent
        if len(runs) > 1:
            with tempfile.TemporaryDirectory() as nothing:
                entry = _row(runs, compared, results, Path(nothing))
                row = log_entry(entry, uri, experiment_name)
            made.add(row)
            links[row] = parent
        links |= dict.fromkeys(ids[name], row)
    _link(links, made, results, uri, experiment_name)
    return parent


def _logged(run: Run, uri: str, experiment_name: str) -> str:
    """The id of a run's MLflow run, which is made now unless it is complete."""
    with tracking_errors(uri), tracking_lock(uri):
        client = connect(uri)
        known = client.get_experiment_by_name(experiment_name)
        tags = run_tags(run)
        for found in find(client, known.experiment_id, tags) if known else ():
            same = found.data.tags.get("gol.content") == tags["gol.content"]
            if same and found.info.status == "FINISHED":
                return found.info.run_id
    return log_run(run.folder.path, uri, experiment_name)


def _log_together(
    results: Path,
    differences: str | Path | None,
    rows: dict[str, list[Run]],
    uri: str,
    experiment_name: str,
) -> str:
    """Logs the table and the figures, and returns the id of their MLflow run."""
    table = results / "table.md"
    if not table.is_file():
        raise UserError(f"no {table}: write it with `gol table`")
    paths = [results / name for name in _REPORT] + sorted(results.glob("figures/*.*"))
    files = {str(p.relative_to(results)): p for p in paths if p.is_file()}
    if differences:
        beside = [Path(differences).with_suffix(kind) for kind in (".md", ".csv", ".json")]
        files |= {p.name: p for p in beside if p.is_file()}
    else:  # a figure of an earlier time
        files = {name: p for name, p in files.items() if p.stem != DIFFERENCES}
    runs = [run for part in rows.values() for run in part]
    # MLflow's Markdown takes a line for a table's only if it has three dashes.
    text = re.sub(r"(?<=\| )-(?= \|)", "---", table.read_text(encoding="utf-8"))
    if len(text) > _LONGEST_NOTE:
        text = f"{text[:_LONGEST_NOTE]}\n\n… (all of it: artifact {table.name})"
    with tempfile.TemporaryDirectory() as folder:
        for name, path in files.items():
            target = Path(folder) / name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
        entry = _entry(experiment_name, runs, results, Path(folder))
        entry.tags.update({"gol.content": files_hash(files), NOTE: text})
        entry.params.update({"rows": str(len(rows)), "runs": str(len(runs))})
        entry.points.extend(cost_points((c for run in runs for c in run.costs), entry.finished))
        return log_entry(entry, uri, experiment_name)


def _row(runs: list[Run], compared: list[Compared], results: Path, artifacts: Path) -> Entry:
    """Mean and sample standard deviation over the seeds of an experiment."""
    who = runs[0].identity
    seeds = ", ".join(str(run.identity.seed) for run in runs)
    entry = _entry(who.experiment, runs, results, artifacts)
    note = f"**{quoting.markdown(who.label)}**: mean over the seeds {seeds}"
    gains = list(difference_points(runs[-1], compared))
    parts = [*map(content_hash, runs), *(f"{gain.key} {gain.value}" for gain in gains)]
    content = hashlib.sha256("".join(parts).encode()).hexdigest()
    entry.tags.update({"gol.content": content, NOTE: note})
    entry.params.update({**run_params(runs[0]), "seed": f"mean of {seeds}"})
    values: dict[str, list[Metric]] = {}
    for run in runs:
        for point in score_points(run):
            values.setdefault(point.key, []).append(point)
    for points in values.values():
        entry.points.append(_like(points[-1], "", statistics.fmean(p.value for p in points)))
    for points in values.values():
        if len(points) > 1:
            spread = statistics.stdev(p.value for p in points)
            entry.points.append(_like(points[-1], "_std", spread))
    entry.points.extend(gains)
    return entry


def _like(point: "Metric", suffix: str, value: float) -> "Metric":
    """A metric of the same moment."""
    return type(point)(f"{point.key}{suffix}", value, point.timestamp, point.step)


def _entry(name: str, runs: list[Run], results: Path, artifacts: Path) -> Entry:
    """What the MLflow runs of several trainings have in common."""
    fingerprints = "".join(sorted(run.train.fingerprint for run in runs))
    tags = {
        "gol.run": f"{results}: {name}",
        "gol.fingerprint": hashlib.sha256(fingerprints.encode()).hexdigest(),
        _PIPELINE: str(results),
        "mlflow.source.name": "snakemake",
        "mlflow.source.type": "LOCAL",
    }
    if user := runs[0].train.source.get("user"):
        tags["mlflow.user"] = user
    return Entry(
        name=name,
        tags=tags,
        params={},
        points=[],
        started=min(run.train.started for run in runs),
        finished=max(run.train.finished for run in runs),
        artifacts=artifacts,
    )


def _link(
    links: dict[str, str], made: set[str], results: Path, uri: str, experiment_name: str
) -> None:
    """Says which MLflow run belongs to which, and deletes what an earlier time has made."""
    with tracking_errors(uri), tracking_lock(uri):
        client = connect(uri)
        for child, parent in links.items():
            client.set_tag(child, PARENT, parent)
        experiment = experiment_id(client, uri, experiment_name)
        for old in client.search_runs([experiment], filter_string=f"tags.`{_PIPELINE}` != ''"):
            known = old.data.tags.get(_PIPELINE) == str(results)
            if known and old.info.run_id not in made:
                client.delete_run(old.info.run_id)
