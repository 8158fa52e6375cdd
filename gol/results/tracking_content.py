"""What MLflow is told of a run: its tags, parameters, metrics, data set, note and artifacts.

MLflow's pages show metrics and parameters in the order in which they were logged, and its views
that compare open on the first of them; so AP comes first.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol.config.layout import Figure
from gol.config.own import Identity
from gol.config.protocols import PROTOCOLS
from gol.costs import Cost, total
from gol.errors import without_secrets
from gol.files import read_json, write_json
from gol.results import quoting
from gol.results.bill import in_words
from gol.results.difference_file import Compared
from gol.results.runs import ProtocolScores, Run, read_protocol
from gol.run_folder import RunFolder

if TYPE_CHECKING:
    from mlflow.entities import DatasetInput, Metric

FORMAT = 3  # of what is logged; a run that was logged in another one is logged anew
PARENT, NOTE = "mlflow.parentRunId", "mlflow.note.content"
_DIGEST = 12  # characters that lists have room for
_LONGEST_VALUE = 500  # characters of a parameter, which every version of MLflow takes
_NOT_CURVES = ("time", "iteration", "epoch", "eta_seconds")
_SHOWN = ("AP", "AP50", "AP75", "APr", "APc", "APf")


def milliseconds(seconds: float) -> int:
    """Unix time as MLflow has it."""
    return round(1000 * seconds)


def run_tags(run: Run) -> dict[str, str]:
    """Who the run is, where it comes from and what lists say of it."""
    source = run.train.source
    origin = {
        "mlflow.user": source.get("user"),
        "mlflow.source.git.commit": source.get("commit"),
        "gol.git.dirty": source.get("dirty"),
    }
    return {
        **identity_tags(run.identity.experiment, run.identity.seed, run.train.fingerprint),
        "gol.content": content_hash(run),
        "mlflow.source.name": "gol train",
        "mlflow.source.type": "LOCAL",
        **{key: value for key, value in origin.items() if value},
        **{f"version.{name}": version for name, version in run.train.versions.items()},
        **{f"raw_annotations.{k}": digest for k, digest in run.train.raw_annotations.items()},
        NOTE: _note(run),
        # MLflow's interface and load_table find table artifacts by this tag.
        "mlflow.loggedArtifacts": json.dumps([{"path": "per_class.json", "type": "table"}]),
    }


def identity_tags(experiment: str, seed: int, fingerprint: str) -> dict[str, str]:
    """The tags by which a training is found again."""
    return {"gol.run": f"{experiment}/seed{seed}", "gol.fingerprint": fingerprint}


def run_params(run: Run) -> dict[str, str]:
    """What a person sorts and filters by, the most telling first."""
    return config_params(run.folder, run.identity) | {
        "scoring": run.primary,
        "iterations": str(run.train.iterations),
        "parameters": str(run.train.parameters),
        "device": run.train.device,
        "ranks": str(run.train.ranks),
        **({"precision.auto": run.train.precision} if run.train.precision else {}),
    }


def config_params(folder: RunFolder, who: Identity) -> dict[str, str]:
    """The part that is known before the training."""
    found = {
        "classifier": who.axes.get("classifier"),
        "seed": who.seed,
        **_schedule(read_json(folder.config)),
        **{key: value for key, value in who.axes.items() if key != "classifier"},
        "experiment": who.experiment,
        "label": who.label,
        **{f"set.{key}": value for key, value in folder.read_overrides().items()},
    }
    return {key: _text(value) for key, value in found.items() if value is not None}


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return without_secrets(text)[:_LONGEST_VALUE]


def _schedule(config: Mapping[str, Any]) -> dict[str, Any]:
    """Rate, length, batch and image size of a resolved config, so far as it has them."""
    own, rate = config["gol"], config.get("optimizer", {}).get("lr")
    batch, base = own.get("global_batch"), own.get("base_batch")
    if rate is not None and batch and base:
        rate = float(f"{rate * batch / base:.12g}")  # what the optimizer gets
    sizes = sorted({f"{max(size)}x{min(size)}" for size in _image_sizes(config.get("data", {}))})
    return {
        "learning_rate": rate,
        "epochs": config.get("runner", {}).get("max_epochs"),
        "iterations": config.get("runner", {}).get("max_iters"),
        "batch": batch,
        "image_size": ", ".join(sizes) or None,
    }


def _image_sizes(data: Mapping[str, Any]) -> Iterator[list[int]]:
    """The sizes (longer and shorter side, pixels) that training images are scaled to."""
    train = data.get("train", {})
    for step in train.get("dataset", train).get("pipeline", ()):
        scale = step.get("img_scale") or ()
        yield from scale if scale and isinstance(scale[0], list) else filter(None, [scale])


def score_points(run: Run) -> Iterator["Metric"]:
    """The scores, the primary scoring's AP first of all, and what the training took."""
    from mlflow.entities import Metric

    when, step = milliseconds(run.train.finished), run.train.iterations
    for scoring, result in run.evaluations.items():
        suffix = _suffix(run, scoring)
        for kind in ("segm", "bbox"):
            for name, value in getattr(result, kind).items():
                if value is not None:
                    yield Metric(f"{kind}_{name}{suffix}", float(value), when, step)
        for protocol, found in _protocols(run, scoring).items():
            for row, values in found.scores.items():
                for name, value in values.items():
                    if value is not None:
                        key = f"{protocol}_{row}_{name}{suffix}"
                        yield Metric(key, float(value), when, step)
    for name in ("seconds", "images_per_second"):
        yield Metric(f"training_{name}", float(getattr(run.train, name)), when, step)
    for scoring, cost in run.detection_costs.items():
        if cost.images_per_second:
            name = f"detection_images_per_second{_suffix(run, scoring)}"
            yield Metric(name, cost.images_per_second, when, step)
    yield from cost_points(run.costs, run.train.finished, step)


def difference_points(run: Run, compared: Iterable[Compared]) -> Iterator["Metric"]:
    """What a training's rows gain over the baseline, 0 to 1 as its scores are, and p."""
    from mlflow.entities import Metric

    when, step = milliseconds(run.train.finished), run.train.iterations
    for row in compared:
        if (
            row.is_of([run.identity.experiment])
            and row.scoring in run.evaluations
            and row.difference is not None
        ):
            name = f"segm_{row.metric}{_suffix(run, row.scoring)}"
            yield Metric(f"difference_{name}", row.difference / 100, when, step)
            yield Metric(f"difference_p_{name}", row.p_corrected, when, step)


def _suffix(run: Run, scoring: str) -> str:
    """What a scoring's names end in; MLflow takes no ``+`` in them."""
    return "" if scoring == run.primary else f"_{scoring}".replace("+", "_")


def cost_points(costs: Iterable[Cost], finished: float, step: int = 0) -> Iterator["Metric"]:
    """What trainings and detections took together; ``finished`` as Unix time."""
    from mlflow.entities import Metric

    for name, value in total(costs).items():
        yield Metric(name, value, milliseconds(finished), step)


def _protocols(run: Run, scoring: str) -> dict[str, ProtocolScores]:
    """The scores by the other protocols that there are."""
    return {
        name: read_protocol(run.folder, scoring, name)
        for name in PROTOCOLS
        if run.folder.evaluation(scoring, name).exists()
    }


def curve_points(curve: Iterable[Mapping[str, float]]) -> Iterator["Metric"]:
    """The training's numbers at their iteration; ``curve`` as ``read_curve`` gives it."""
    from mlflow.entities import Metric

    for point in curve:
        when, step = milliseconds(point["time"]), int(point["iteration"])
        for key, value in point.items():
            if key not in _NOT_CURVES:
                yield Metric(f"train/{key}", value, when, step)


def datasets(run: Run) -> list["DatasetInput"]:
    """What it was trained and scored on, with digests; empty where these were not noted."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    data, inputs = read_json(run.folder.config).get("data", {}), []
    for split, part, context in (("train", "train", "training"), ("val", "test", "validation")):
        digest, place = run.train.raw_annotations.get(split), data.get(part, {})
        path = place.get("dataset", place).get("ann_file")
        if digest and path:
            dataset = Dataset(
                name=f"{Path(run.identity.axes.get('dataset', 'dataset')).stem} {split}",
                digest=digest[:_DIGEST],
                source_type="local",
                source=json.dumps({"uri": path}),
                profile=json.dumps({"sha256": digest}),
            )
            inputs.append(DatasetInput(dataset, [InputTag("mlflow.data.context", context)]))
    return inputs


def _note(run: Run) -> str:
    """The run in a few lines of Markdown."""
    lines = [f"**{quoting.markdown(run.identity.label)}**, seed {run.identity.seed}"]
    if run.identity.statement:
        lines += ["", quoting.markdown(run.identity.statement)]
    lines += ["", f"| scores × 100 | {' | '.join(_SHOWN)} |", "|---" * (len(_SHOWN) + 1) + "|"]
    for scoring, result in run.evaluations.items():
        for kind, what in (("segm", "masks"), ("bbox", "boxes")):
            values = [getattr(result, kind).get(name) for name in _SHOWN]
            cells = ["–" if value is None else f"{100 * value:.1f}" for value in values]
            lines.append(f"| {what}, {quoting.markdown(scoring)} | {' | '.join(cells)} |")
    lines += ["", f"Cost: {in_words(run.costs)}"]
    lines += ["", f"Run folder: {quoting.markdown(str(run.folder))}"]
    return "\n".join(lines)


def write_artifacts(run: Run, folder: Path) -> None:
    """Writes all that belongs to an MLflow run into an empty folder."""
    from gol.results.class_plots import plot_per_class
    from gol.results.plots import plot_curves, plot_groups
    from gol.results.rows import collect

    for path in _files(run):
        if path.suffix != ".jsonl":
            target = folder / path.relative_to(run.folder.path)
            target.parent.mkdir(exist_ok=True)
            content = path.read_bytes()
            # These may say where the backbone's weights come from.
            if path in (run.folder.config, run.folder.overrides):
                content = without_secrets(content.decode()).encode()
            target.write_bytes(content)
    write_json(folder / "per_class.json", _class_table(run))
    rows = {"": collect([run.folder.path])}
    plot_curves([run.folder.path], rows, folder / "plots" / Figure.CURVES.file)
    plot_groups(rows, folder / "plots" / Figure.GROUPS.file)
    plot_per_class(rows, folder / "plots" / Figure.CLASSES.file)


def _class_table(run: Run) -> dict[str, list]:
    """All classes, one line each, in the format of MLflow's tables.

    Its view that compares runs groups by the first column and shows the second.
    """
    found: dict[int, dict[str, Any]] = {}
    for scoring, result in run.evaluations.items():
        suffix = _suffix(run, scoring)
        for entry in result.per_class:
            line = found.setdefault(entry.id, {"name": entry.name})
            line |= {f"segm_AP{suffix}": entry.segm_AP, f"bbox_AP{suffix}": entry.bbox_AP}
    for entry in run.evaluations[run.primary].per_class:
        keys = ("frequency", "image_count", "id")
        found[entry.id] |= {key: getattr(entry, key) for key in keys}
    columns = list(dict.fromkeys(key for line in found.values() for key in line))
    return {"columns": columns, "data": [[line.get(c) for c in columns] for line in found.values()]}


def _files(run: Run) -> list[Path]:
    folder = run.folder
    scores = [folder.evaluation(scoring) for scoring in run.evaluations]
    records = [folder.calibration(scoring) for scoring in run.evaluations]
    there = [path for path in (folder.overrides, *records) if path.exists()]
    found = [folder.detections(s, best) for s in run.evaluations for best in (False, True)]
    costs = [folder.cost, *map(folder.cost_of, found)]
    there += [path for path in costs if path.exists()]
    others = [folder.evaluation(s, name) for s in run.evaluations for name in PROTOCOLS]
    scores += [path for path in others if path.exists()]
    return [folder.config, folder.summary, folder.metrics, *there, *scores]


def content_hash(run: Run) -> str:
    """SHA-256 over the files that are logged and the format in which they are."""
    return files_hash({str(path.relative_to(run.folder.path)): path for path in _files(run)})


def files_hash(files: Mapping[str, Path]) -> str:
    """SHA-256 over files by name, and the format in which they are logged."""
    digest = hashlib.sha256(f"{FORMAT}\n".encode())
    for name, path in files.items():
        content = path.read_bytes()
        digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
