"""The pipeline file: which experiments to train and to show, checked before anything runs."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from gol.config.axes import AXES, Axes, axis_values, scorings
from gol.config.datasets import dataset_definition, load_dataset
from gol.config.experiments import experiment, trained_as
from gol.config.layout import Layout, check_titles
from gol.config.pipeline_file import Items, PipelineFile, Row
from gol.config.protocols import PER_CLASS
from gol.errors import UserError, unknown, validated
from gol.files import read_yaml

_TABLE = "configs/experiments.yaml"
_REST = "Further experiments"
LEAST_SEEDS = 3  #: to tell differences from chance


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline file; the fields are described in its schema.

    ``layout`` is what ``reproduce_table`` shows, ``experiments`` is all that is trained; some of
    them are rows ``NAME@ROW``, whose changes are in ``rows``.
    """

    name: str
    dataset: str | None
    layout: Layout
    experiments: tuple[str, ...]
    seeds: range
    threads: int
    set: dict[str, Any]
    init: str | None = None
    rows: dict[str, Row] = field(default_factory=dict)
    per_class: int = PER_CLASS
    baseline: str | None = None

    @property
    def grid(self) -> Layout | None:
        """The layout and, below it, the experiments that it lacks; None if it lacks none."""
        shown = self.layout.experiments
        rest = [name for name in self.experiments if name not in shown]
        tables = {**self.layout.tables, _REST: rest}
        return replace(self.layout, tables=tables) if rest else None

    def overrides(self, name: str) -> dict[str, Any]:
        """What the config of an experiment is told on top of it: dotted key to value."""
        same = (row for other, row in self.rows.items() if trained_as(other) == name)
        row = self.rows.get(name) or next(same, None)
        label = {"gol.label": row.label} if name in self.rows and row.label else {}
        given = {"init": self.init} if self.init else {}
        given |= {"gol.threads": self.threads, **self.set}
        return {**given, **(row.set if row else {}), **label}

    def settings(self, name: str) -> list[str]:
        """The same as ``gol config --set`` takes it."""
        return [f"{key}={json.dumps(value)}" for key, value in self.overrides(name).items()]

    def dataset_of(self, name: str) -> str:
        """The dataset that an experiment is trained on: a name or a YAML file."""
        return self.dataset or experiment(name).axes.dataset

    @property
    def trainings(self) -> list[str]:
        """The experiments that are trained: a calibrated one is scored on the runs of another."""
        return list(dict.fromkeys(map(trained_as, self.experiments)))

    @property
    def results(self) -> str:
        """Folder of all that is made."""
        return f"results/{self.name}"

    @property
    def datasets(self) -> list[str]:
        """All datasets, each once."""
        return list(dict.fromkeys(map(self.dataset_of, self.experiments)))

    def data(self, name: str) -> str:
        """Folder of an experiment's prepared dataset."""
        return self.data_folder(Path(self.dataset_of(name)).stem)

    def data_folder(self, dataset: str) -> str:
        """Folder of a prepared dataset."""
        return f"{self.results}/data/{dataset}"

    def runs(self, name: str) -> list[str]:
        """Run folders of an experiment, one per seed."""
        return [self.run_folder(trained_as(name), seed) for seed in self.seeds]

    def run_folder(self, name: str, seed: int | str) -> str:
        """Folder of one run of an experiment."""
        return f"{self.results}/runs/{name}/seed{seed}"

    def definition(self, name: str) -> str:
        """All axis values of an experiment as text, so that a change of one can be noticed."""
        return _definition(name, self.dataset_of(name))

    def pretrained_backbone(self, name: str) -> str | None:
        """The backbone whose weights are to be downloaded; None if none, or a file is named."""
        if self.init_of(name) != "none":
            return None
        backbone = experiment(name).axes.backbone
        named = any(key.startswith("gol.weights") for key in self.overrides(name))
        return backbone if axis_values("backbone")[backbone].get("weights") and not named else None

    def init_of(self, name: str) -> str:
        """The detector that an experiment starts from: a name, a file, an address or none."""
        return self.init or experiment(name).axes.init

    @staticmethod
    def scorings(name: str) -> list[str]:
        """The activations that an experiment's detections are scored with, and its calibration."""
        axes = experiment(name).axes
        return scorings(_scorings(axes.classifier), axes.calibration)


# Snakemake asks once for each job, and a pipeline may have thousands.
@cache
def _definition(name: str, dataset: str) -> str:
    entry = experiment(name).model_dump()
    values = {axis: axis_values(axis)[value] for axis, value in entry["axes"].items()}
    return json.dumps([entry, values, dataset_definition(dataset)])


@cache
def _scorings(classifier: str) -> list[str]:
    return axis_values("classifier")[classifier]["scorings"]


def read_pipeline(content: Mapping[str, Any]) -> Pipeline:
    """Checks a pipeline file's content.

    Raises:
        UserError: an unknown or missing key, a wrong value, an unknown experiment or dataset.
    """
    file = validated(PipelineFile, content if isinstance(content, dict) else dict(content))
    if not (file.tables or file.experiments):
        raise UserError("key 'experiments' is missing: name at least one, or give 'tables'")
    layout, rows = _layout(file), _rows(file)
    if _REST in {*layout.tables, *layout.figures}:
        raise UserError(f"title '{_REST}' is that of the table of all other experiments")
    pipeline = Pipeline(
        name=file.name,
        dataset=file.dataset,
        layout=layout,
        experiments=tuple(dict.fromkeys([*layout.experiments, *_names(file.experiments)])),
        seeds=range(file.seeds),
        threads=file.threads,
        set=file.set,
        init=file.init,
        rows=rows,
        per_class=file.per_class,
        baseline=_baseline(file, layout),
    )
    _check_experiments(pipeline)
    return pipeline


def read_layout(source: str) -> Layout:
    """The layout of a pipeline file, or of its keys ``tables``, ``figures`` … as a JSON text.

    Raises:
        UserError: the file is missing, or the keys are or have another form.
    """
    try:
        content = json.loads(source) if source.lstrip().startswith("{") else read_yaml(source)
    except (ValueError, RecursionError) as error:
        raise UserError(f"the layout is not valid JSON: {error}") from error
    keys = ("tables", "figures", "experiments", "variants")
    if not isinstance(content, Mapping) or not set(keys) & set(content):
        raise UserError(f"expected an object with one of the keys {', '.join(keys)}")
    if "name" not in content and (others := set(content) - {*keys, "protocols"}):
        raise unknown("key of the layout", min(others, key=str), (*keys, "protocols"))
    shown = {key: content[key] for key in (*keys, "protocols") if key in content}
    return _layout(validated(PipelineFile, {"name": "layout", **shown}))


def _names(items: Items) -> list[str]:
    return [name for item in items for name in item]


def _rows(file: PipelineFile) -> dict[str, Row]:
    """Every row with changes; it is defined once and may be named again."""
    rows: dict[str, Row] = {}
    for name, row in (
        pair
        for items in [*file.tables.values(), file.experiments]
        for item in items
        for pair in item.items()
    ):
        if row is not None and rows.setdefault(name, row) != row:
            raise UserError(f"row {name} is defined twice: name it alone the second time")
    return rows


def _layout(file: PipelineFile) -> Layout:
    names = _names(file.experiments)
    tables = {title: _names(items) for title, items in file.tables.items()}
    layout = Layout(tables or ({"": names} if names else {}), file.figures, file.protocols)
    check_titles(layout)
    return layout


def _baseline(file: PipelineFile, layout: Layout) -> str | None:
    """The experiment to compare with, if there are enough seeds for it."""
    if file.baseline not in (None, *layout.experiments):
        raise unknown("baseline", file.baseline, layout.experiments)
    if file.baseline and not file.dataset:
        datasets = dict.fromkeys(experiment(name).axes.dataset for name in layout.experiments)
        if len(datasets) > 1:
            raise UserError(
                f"baseline {file.baseline}: what is shown was scored on different data, "
                f"{' and '.join(datasets)}; allowed: experiments of one dataset"
            )
    return file.baseline if file.seeds >= LEAST_SEEDS else None


def _check_calibrated(rows: Mapping[str, Row]) -> None:
    """A calibrated row is scored on the runs of another, and has that one's settings."""
    for name, row in rows.items():
        trained = trained_as(name)
        if trained == name:
            continue
        if row.label:
            raise UserError(
                f"row {name} is scored on the runs of {trained}: give that one the label"
            )
        same = [other for other in rows if trained in (other, trained_as(other))]
        if any(rows[other].set != row.set for other in same):
            raise UserError(
                f"row {name} is scored on the runs of {trained}: give both the same set"
            )


def _check_experiments(pipeline: Pipeline) -> None:
    for changes in [pipeline.set, *(row.set for row in pipeline.rows.values())]:
        for axis in AXES:
            if axis in changes:
                raise UserError(
                    f"key 'set.{axis}': an axis belongs to the experiment, see {_TABLE}"
                )
        if "seed" in changes:
            raise UserError("key 'set.seed': seeds 0, 1 … are counted by the key 'seeds'")
    _check_calibrated(pipeline.rows)
    for name in pipeline.experiments:
        boxes_alone = experiment(name).axes.detector == "faster_rcnn"
        if boxes_alone and "boundary" in pipeline.layout.protocols:
            raise UserError(
                f"protocol boundary with {name}, whose detector faster_rcnn has no masks; allowed: "
                "experiments with masks, or other protocols"
            )
        if "@" in name and name not in pipeline.rows:
            raise UserError(f"row {name} has no changes: write '{name}: {{set: {{KEY: VALUE}}}}'")
    for dataset in pipeline.datasets:
        load_dataset(dataset)
    changed = pipeline.experiments
    if not (pipeline.set or pipeline.init):
        changed = [name for name in changed if name in pipeline.rows]
    if changed:  # resolving takes a while, but finds what is wrong before anything runs
        from gol.config.resolve import load_experiment

        for name in _one_of_each_form(pipeline, changed):
            # of any dataset whose number of classes is known before it is prepared
            overrides = {**pipeline.overrides(name), "dataset": Axes().dataset}
            load_experiment(name, overrides, os.devnull)


def _one_of_each_form(pipeline: Pipeline, names: Iterable[str]) -> list[str]:
    """Experiments whose configs between them have every key: those of other axis values."""
    forms = {}
    for name in names:
        axes = {**experiment(name).axes.model_dump(), "dataset": None}
        forms.setdefault(json.dumps([axes, name if name in pipeline.rows else None]), name)
    return list(forms.values())
