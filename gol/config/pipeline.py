"""The pipeline file: which experiments to train and to show, checked before anything runs."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from gol.config.axes import AXES, axis_values, experiment_entry, load_dataset, split_files
from gol.errors import UserError, choices
from gol.files import configs_folder, read_yaml

_TABLE = "configs/experiments.yaml"
_REST = "Further experiments"
_FIGURES = ("ap_by_group", "ap_per_class", "training_loss", "loss_gradients")


@dataclass(frozen=True)
class Layout:
    """What a report shows.

    Attributes:
        tables: title of a table to its experiments, in the order of the rows.
        figures: title of a figure to its groups (models), each with an experiment for each series.
    """

    tables: dict[str, list[str]]
    figures: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)

    @property
    def experiments(self) -> list[str]:
        """All experiments that are shown, each once."""
        groups = [*self.tables.values()]
        groups += [group.values() for figure in self.figures.values() for group in figure.values()]
        return list(dict.fromkeys(name for group in groups for name in group))

    @property
    def files(self) -> list[str]:
        """Names of the figures that a report writes, without suffix."""
        return [*_FIGURES, *map(file_name, self.figures)]

    @property
    def text(self) -> str:
        """As ``gol table --layout`` takes it."""
        return json.dumps({"tables": self.tables, "figures": self.figures}, ensure_ascii=False)


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline file; the fields are described in its schema.

    ``layout`` is what ``reproduce_table`` shows, ``experiments`` is all that is trained.
    """

    name: str
    dataset: str | None
    layout: Layout
    experiments: tuple[str, ...]
    seeds: range
    threads: int
    set: dict[str, Any]

    @property
    def grid(self) -> Layout | None:
        """The layout and, below it, the experiments that it lacks; None if it lacks none."""
        shown = self.layout.experiments
        rest = [name for name in self.experiments if name not in shown]
        return Layout({**self.layout.tables, _REST: rest}, self.layout.figures) if rest else None

    @property
    def settings(self) -> list[str]:
        """What every config is told on top of the experiment, as ``gol config --set`` takes it."""
        values = {"gol.threads": self.threads, **self.set}
        return [f"{key}={json.dumps(value)}" for key, value in values.items()]

    def dataset_of(self, experiment: str) -> str:
        """The dataset that an experiment is trained on: a name or a YAML file."""
        return self.dataset or experiment_entry(experiment)["axes"]["dataset"]

    @property
    def results(self) -> str:
        """Folder of all that is made."""
        return f"results/{self.name}"

    @property
    def datasets(self) -> list[str]:
        """All datasets, each once."""
        return list(dict.fromkeys(map(self.dataset_of, self.experiments)))

    def data(self, experiment: str) -> str:
        """Folder of an experiment's prepared dataset."""
        return f"{self.results}/data/{Path(self.dataset_of(experiment)).stem}"

    def runs(self, experiment: str) -> list[str]:
        """Run folders of an experiment, one a seed."""
        return [f"{self.results}/runs/{experiment}/seed{seed}" for seed in self.seeds]

    def definition(self, experiment: str) -> str:
        """All axis values of an experiment as text, so that a change of one can be noticed."""
        return _definition(experiment, self.dataset_of(experiment))

    def pretrained_backbone(self, experiment: str) -> str | None:
        """The backbone whose weights are to be downloaded; None if none, or a file is named."""
        name = experiment_entry(experiment)["axes"]["backbone"]
        named = any(key.startswith("gol.weights") for key in self.set)
        return name if axis_values("backbone")[name].get("weights") and not named else None

    @staticmethod
    def scorings(experiment: str) -> list[str]:
        """The activations that an experiment's detections are scored with."""
        return _scorings(experiment_entry(experiment)["axes"]["classifier"])


def file_name(title: str) -> str:
    """The name of a figure's file, without suffix."""
    return re.sub(r"\W+", "_", title.lower()).strip("_")


# Snakemake asks once for each job, and a pipeline may have thousands.
@cache
def dataset_definition(dataset: str) -> str:
    """A dataset's definition as text, so that a change of it can be noticed."""
    return json.dumps(load_dataset(dataset))


@cache
def annotation_files(dataset: str, prepared: str) -> list[str]:
    """The raw annotation files of the train and the val split."""
    definition = load_dataset(dataset)
    return [str(split_files(definition, split, prepared)[0]) for split in ("train", "val")]


@cache
def _definition(experiment: str, dataset: str) -> str:
    entry = experiment_entry(experiment)
    values = {axis: axis_values(axis)[name] for axis, name in entry["axes"].items()}
    return json.dumps([entry, values, dataset_definition(dataset)])


@cache
def _scorings(classifier: str) -> list[str]:
    return axis_values("classifier")[classifier]["scorings"]


def read_pipeline(content: Mapping[str, Any]) -> Pipeline:
    """Checks a pipeline file's content.

    Raises:
        UserError: an unknown or missing key, a wrong value, an unknown experiment or dataset.
    """
    rules = _schema()
    allowed = rules["properties"]
    for key in content:
        if key not in allowed:
            raise UserError(f"unknown key '{key}'; allowed: {choices(allowed)}")
    values = {key: rule["default"] for key, rule in allowed.items() if "default" in rule}
    values |= content
    _check(values, rules)
    if not (values["tables"] or values["experiments"]):
        raise UserError("key 'experiments' is missing: name at least one, or give 'tables'")
    layout = _layout(values)
    if _REST in {*layout.tables, *layout.figures}:
        raise UserError(f"title '{_REST}' is that of the table of all other experiments")
    names = dict.fromkeys([*layout.experiments, *values["experiments"]])
    pipeline = Pipeline(
        name=values["name"],
        dataset=values["dataset"],
        layout=layout,
        experiments=tuple(names),
        seeds=range(values["seeds"]),
        threads=values["threads"],
        set=values["set"],
    )
    _check_experiments(pipeline)
    return pipeline


def read_layout(source: str) -> Layout:
    """The layout of a pipeline file, or of its keys ``tables`` and ``figures`` as a JSON text.

    Raises:
        UserError: the file is missing, or the keys are or have another form.
    """
    try:
        content = json.loads(source) if source.lstrip().startswith("{") else read_yaml(source)
    except json.JSONDecodeError as error:
        raise UserError(f"the layout is no valid JSON: {error}") from error
    rules = {key: _schema()["properties"][key] for key in ("tables", "figures", "experiments")}
    if not isinstance(content, Mapping) or not set(rules) & set(content):
        raise UserError(f"expected an object with the keys {choices(rules)}")
    _check(content, {"type": "object", "properties": rules})
    return _layout(content)


def _layout(content: Mapping[str, Any]) -> Layout:
    names = content.get("experiments")
    tables = content.get("tables") or ({"": names} if names else {})
    layout = Layout(tables, content.get("figures", {}))
    _check_titles(layout)
    return layout


def _check_titles(layout: Layout) -> None:
    """Refuses titles that share a place in a report: a table's, or a figure's file."""
    taken = dict.fromkeys(_FIGURES, "a figure of every report")
    for title in (*layout.tables, *layout.figures):
        if not isinstance(title, str):
            raise UserError(f"title {title!r}: expected a text")
    for title in layout.figures:
        name = file_name(title)
        if not name:
            raise UserError(f"figure '{title}': a title needs a letter or digit, for its file")
        if name in taken:
            raise UserError(f"figure '{title}': its file {name}.png is that of {taken[name]}")
        if title in layout.tables:
            raise UserError(f"figure '{title}': a table has this title; name one of them otherwise")
        taken[name] = f"figure '{title}'"


def _schema() -> dict[str, Any]:
    # Installed, the package has both folders inside.
    return read_yaml(configs_folder().parent / "workflow/schemas/pipeline.schema.yaml")


def _check(values: Mapping[str, Any], rules: Mapping[str, Any]) -> None:
    from jsonschema import Draft202012Validator

    for problem in Draft202012Validator(rules).iter_errors(values):
        where = ".".join(str(part) for part in problem.path)
        raise UserError(f"key '{where}': {problem.message}" if where else problem.message)


def _check_experiments(pipeline: Pipeline) -> None:
    for axis in AXES:
        if axis in pipeline.set:
            raise UserError(f"key 'set.{axis}': an axis belongs to the experiment, see {_TABLE}")
    for experiment in pipeline.experiments:
        experiment_entry(experiment)
    for dataset in pipeline.datasets:
        load_dataset(dataset)
    if pipeline.set:  # resolving takes a while, but finds a wrong key before anything runs
        from gol.config.resolve import load_experiment

        for experiment in _one_of_each_form(pipeline.experiments):
            load_experiment(experiment, pipeline.set, os.devnull)


def _one_of_each_form(experiments: Iterable[str]) -> list[str]:
    """Experiments whose configs between them have every key: those of other axis values."""
    forms = {}
    for name in experiments:
        axes = {**experiment_entry(name)["axes"], "dataset": None}
        forms.setdefault(json.dumps(axes), name)
    return list(forms.values())
