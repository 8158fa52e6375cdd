"""The pipeline file: which experiments to train on which dataset, checked before anything runs."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gol.axes import AXES, axis_values, experiment_entry, load_dataset, read_yaml, split_files
from gol.config import load_experiment
from gol.errors import UserError, choices

_TABLE = "configs/experiments.yaml"


@dataclass(frozen=True)
class Pipeline:
    """A checked pipeline file; the fields are described in its schema."""

    name: str
    dataset: str
    experiments: tuple[str, ...]
    seeds: range
    threads: int
    set: dict[str, Any]

    @property
    def drawn(self) -> bool:
        """Whether the dataset is drawn here rather than read from files."""
        return load_dataset(self.dataset)["source"] == "demo"

    @property
    def settings(self) -> list[str]:
        """What every config is told on top of the experiment, as ``gol config --set`` takes it."""
        values = {"gol.threads": self.threads, **self.set}
        return [f"{key}={json.dumps(value)}" for key, value in values.items()]

    @property
    def dataset_definition(self) -> str:
        """The dataset's definition as text, so that a change of it can be noticed."""
        return json.dumps(load_dataset(self.dataset))

    def definition(self, experiment: str) -> str:
        """All axis values of an experiment as text, so that a change of one can be noticed."""
        entry = experiment_entry(experiment)
        values = {axis: axis_values(axis)[name] for axis, name in entry["axes"].items()}
        return json.dumps([entry, values, self.dataset_definition])

    def annotation_files(self, data: str) -> list[str]:
        """The raw annotation files of the train and the val split."""
        dataset = load_dataset(self.dataset)
        return [str(split_files(dataset, split, data)[0]) for split in ("train", "val")]

    @staticmethod
    def scorings(experiment: str) -> list[str]:
        """The activations that an experiment's detections are scored with."""
        classifier = experiment_entry(experiment)["axes"]["classifier"]
        return axis_values("classifier")[classifier]["scorings"]


def read_pipeline(content: Mapping[str, Any], schema: str) -> Pipeline:
    """Checks a pipeline file's content.

    Args:
        content: the parsed file.
        schema: path of ``pipeline.schema.yaml``.

    Raises:
        UserError: an unknown or missing key, a wrong value, an unknown experiment or dataset.
    """
    from jsonschema import Draft202012Validator

    rules = read_yaml(schema)
    allowed = rules["properties"]
    for key in content:
        if key not in allowed:
            raise UserError(f"unknown key '{key}'; allowed: {choices(allowed)}")
    values = {key: rule["default"] for key, rule in allowed.items() if "default" in rule}
    values |= content
    for problem in Draft202012Validator(rules).iter_errors(values):
        where = ".".join(str(part) for part in problem.path)
        raise UserError(f"key '{where}': {problem.message}" if where else problem.message)
    load_dataset(values["dataset"])
    for experiment in values["experiments"]:
        experiment_entry(experiment)
        for axis in set(AXES) & set(values["set"]):
            raise UserError(f"key 'set.{axis}': an axis belongs to the experiment, see {_TABLE}")
        if values["set"]:  # resolving takes seconds, but finds a wrong key before anything runs
            load_experiment(experiment, values["set"], os.devnull)
    return Pipeline(
        **{
            **values,
            "experiments": tuple(values["experiments"]),
            "seeds": range(values["seeds"]),
        }
    )
