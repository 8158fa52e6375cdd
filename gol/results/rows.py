"""Finished runs → the rows of the results table, with the spread over seeds."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gol.config.experiments import calibrated_as, experiment
from gol.config.own import Identity
from gol.config.protocols import PROTOCOLS
from gol.costs import Cost
from gol.errors import UserError, plural
from gol.groups import GROUP_METRICS
from gol.results.runs import Evaluation, ProtocolScores, Run, read_protocol, read_runs

METRICS = (*GROUP_METRICS, "APb")
"""Columns of the table: mask AP over all, rare, common and frequent classes; box AP."""

ABSENT = "–"
"""What stands for a number that is not known."""

SOURCE = {name: ("segm", name) for name in GROUP_METRICS} | {"APb": ("bbox", "AP")}


@dataclass(frozen=True)
class ClassRow:
    """A class in a row.

    Attributes:
        id: as in the annotations.
        name: as there.
        group: r, c or f.
        images: training images with the class, if that is known.
        values: mask AP of each seed in percent points; None where it was not measurable.
    """

    id: int
    name: str
    group: str
    images: int | None
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        """Mean mask AP over seeds in percent points."""
        return mean_std(self.values)[0]


@dataclass(frozen=True)
class Row:
    """One line of the table: an experiment under one scoring, over its seeds.

    Attributes:
        experiment: its name.
        trained_as: name of the experiment that was trained, where this one only calibrates it.
        scoring: activation that turned logits into scores at test time.
        training: label of the experiment that was trained.
        label: how the table calls the row; names the scoring where the run has several.
        classifier: the axis value that decides the row's colour.
        primary: whether this is the run's first scoring, beside which published numbers stand.
        seeds: the seeds, in the order of ``values``.
        values: metric to one value a seed, in percent points; None where it was not measurable.
        published: published values in percent points; None if there are none, or on a dataset
            that is not the experiment's own.
        published_on: the dataset that these were measured on.
        elsewhere: whether that is another dataset than the row's, as for the demo.
        comparable: whether these are for this very experiment and not for one like it.
        published_note: what to know about these, or None.
        statement: what to bear in mind about the dataset, or None.
        seconds: training time of each seed.
        images_per_second: training throughput of each seed.
        training_costs: what the training of each seed took.
        detection_costs: what the detection of each seed took.
        parameters: number of the model's parameters.
        device: what it was trained on.
        setting: dataset, images, protocol and engine of the scores, as one sentence.
        per_class: all classes.
        beside: head of a column of another protocol to one value a seed, as in ``values``.
    """

    experiment: str
    trained_as: str
    scoring: str
    training: str
    label: str
    classifier: str
    primary: bool
    seeds: tuple[int, ...]
    values: dict[str, tuple[float | None, ...]]
    published: dict[str, float] | None
    published_on: str | None
    elsewhere: bool
    comparable: bool
    published_note: str | None
    statement: str | None
    seconds: tuple[float, ...]
    images_per_second: tuple[float, ...]
    training_costs: tuple[Cost, ...]
    detection_costs: tuple[Cost, ...]
    parameters: int
    device: str
    setting: str
    per_class: tuple[ClassRow, ...]
    beside: dict[str, tuple[float | None, ...]] = field(default_factory=dict)

    @property
    def differences(self) -> dict[str, float | None]:
        """Mean minus published value, in percent points; empty where they do not compare."""
        if not (self.primary and self.published and self.comparable):
            return {}
        pairs = {m: (mean_std(self.values[m])[0], self.published.get(m)) for m in METRICS}
        return {m: None if None in pair else pair[0] - pair[1] for m, pair in pairs.items()}


Tables = Mapping[str, Sequence[Row]]
"""Title to rows; a single table may have the title ""."""


def collect(
    run_folders: Iterable[str | Path], protocols: Sequence[str] = (), shown: Sequence[str] = ()
) -> list[Row]:
    """Reads run folders into rows, one for each experiment and scoring, in the order given.

    Args:
        run_folders: finished runs.
        protocols: those of ``gol.config.protocols.PROTOCOLS`` whose scores the rows have, too; of
            what was calibrated by hand as far as every seed has them.
        shown: experiments whose calibrations are no such.

    Raises:
        UserError: a folder is incomplete, two hold the same experiment and seed, or two seeds
            were scored on different data or by different protocols.
    """
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in read_runs(run_folders):
        for scoring in run.evaluations:
            groups.setdefault((_shown_as(run, scoring).experiment, scoring), []).append(run)
    # A run's scorings stay together even when its seeds are not adjacent in the input.
    order = list(dict.fromkeys(experiment for experiment, _ in groups))
    return [
        _row(runs, scoring, protocols, name in shown)
        for (name, scoring), runs in sorted(
            groups.items(), key=lambda item: order.index(item[0][0])
        )
    ]


def mean_std(values: Iterable[float | None]) -> tuple[float | None, float | None]:
    """Mean and sample standard deviation of the values that are there, else None.

    One value has a mean and no deviation.
    """
    there = [value for value in values if value is not None]
    return (
        statistics.fmean(there) if there else None,
        statistics.stdev(there) if len(there) > 1 else None,
    )


def mean_text(values: Iterable[float | None], digits: int = 1) -> str:
    """Mean ± sample standard deviation, as far as there are values; a dash for none."""
    mean, std = mean_std(values)
    if mean is None:
        return ABSENT
    return f"{mean:4.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def _row(runs: list[Run], scoring: str, protocols: Sequence[str], planned: bool) -> Row:
    first, who = runs[0], _shown_as(runs[0], scoring)
    results = [run.evaluations[scoring] for run in runs]
    by_hand = scoring not in who.scorings and not (planned and who is not first.identity)
    there = [
        name
        for name in protocols
        if not by_hand or all(run.folder.evaluation(scoring, name).exists() for run in runs)
    ]
    others = [{name: read_protocol(run.folder, scoring, name) for name in there} for run in runs]
    settings = [
        "; ".join([_setting(run.identity.axes, result), *map(_protocol_setting, other.values())])
        for run, result, other in zip(runs, results, others, strict=True)
    ]
    for run, setting in zip(runs, settings, strict=True):
        if setting != settings[0]:
            raise UserError(
                f"{run.folder} and {first.folder} were not scored alike: {setting} / {settings[0]}"
            )
    published_on = _listed(who.compare or who.experiment)
    return Row(
        experiment=who.experiment,
        trained_as=first.identity.experiment,
        scoring=scoring,
        training=first.identity.label,
        label=_label(runs, who, scoring),
        classifier=who.axes.get("classifier", ""),
        primary=scoring in (first.primary, f"{first.primary}+{who.axes.get('calibration')}")
        and not any(_other_strength(run, scoring) for run in runs),
        seeds=tuple(run.identity.seed for run in runs),
        values={
            metric: tuple(_percent(getattr(result, kind).get(name)) for result in results)
            for metric, (kind, name) in SOURCE.items()
        },
        published=who.published if _on_its_dataset(who) else None,
        published_on=published_on,
        elsewhere=published_on != who.axes.get("dataset"),
        comparable=who.compare is None and _is_as_listed(who),
        published_note=who.published_note,
        statement=first.statement,
        seconds=tuple(run.train.seconds for run in runs),
        images_per_second=tuple(run.train.images_per_second for run in runs),
        training_costs=tuple(run.training_cost for run in runs),
        detection_costs=tuple(run.detection_costs[scoring] for run in runs),
        parameters=first.train.parameters,
        device=first.train.device,
        setting=settings[0],
        per_class=_per_class(results),
        beside={
            head: tuple(
                _percent(_cell(other[name].scores, *place)) if name in other else None
                for other in others
            )
            for name in protocols
            for head, place in PROTOCOLS[name].columns.items()
        },
    )


def _cell(scores: dict[str, dict[str, Any]], row: str, column: str) -> float | None:
    return scores.get(row or next(iter(scores), ""), {}).get(column)


def _protocol_setting(found: ProtocolScores) -> str:
    """The protocol with its number of detections: what it is of stands in its file."""
    limits = ("detections_per_class", "max_detections")
    shown = [
        f"{key.replace('_', ' ')} {found.protocol[key]:,}"
        for key in limits
        if key in found.protocol
    ]
    return f"{found.protocol.get('name', '')}: {', '.join(shown)}"


def _on_its_dataset(who: Identity) -> bool:
    """Whether a run is on the dataset that the list of experiments has it on."""
    # a file of that name is anybody's
    return who.axes.get("dataset", "") == _listed(who.experiment)


def _is_as_listed(who: Identity) -> bool:
    """Whether a run's experiment is listed with its calibration."""
    method = who.axes.get("calibration")
    return method is None or _listed(who.experiment, "calibration") == method


def _listed(name: str, axis: str = "dataset") -> str | None:
    """An axis value of an experiment; None where the list of experiments has changed."""
    try:
        return getattr(experiment(name).axes, axis)
    except UserError:
        return None


def _shown_as(run: Run, scoring: str) -> Identity:
    """Who a row is: the run, or the experiment that a calibration makes of it.

    At another strength than the default it is none that is listed.
    """
    who, (_, _, method) = run.identity, scoring.partition("+")
    name = calibrated_as(who.experiment, method) if scoring not in who.scorings else None
    if name is None or _other_strength(run, scoring):
        return who
    entry = experiment(name)
    told = {key: getattr(entry, key) for key in ("compare", "published", "published_note")}
    axes, label = {**who.axes, "calibration": method}, entry.label
    if who.label != experiment(who.experiment).label:  # one of a pipeline's own
        label = f"{who.label}, {_calibration([run], scoring)}"
    return who.model_copy(update={"experiment": name, "axes": axes, "label": label, **told})


def _label(runs: Sequence[Run], who: Identity, scoring: str) -> str:
    run, activation = runs[0], scoring.partition("+")[0]
    several = len(run.identity.activations) > 1
    other = any(_other_strength(each, scoring) for each in runs)
    if scoring in run.identity.scorings and not other:
        original = ", as the original" if scoring == run.primary else ""
        return f"{who.label} (scored with {scoring}{original})" if several else who.label
    label = who.label if who is not run.identity else f"{who.label}, {_calibration(runs, scoring)}"
    return f"{label} (scored with {activation})" if several else label


def _calibration(runs: Iterable[Run], scoring: str) -> str:
    """A calibration's name and its strength, from the least to the most where seeds differ."""
    from gol.calibration import calibration  # torch, which a table without one does not need

    chosen = calibration(scoring.partition("+")[2])
    found = sorted({value for run in runs if (value := run.folder.strength(scoring)) is not None})
    if not chosen.parameter or set(found) <= {chosen.default}:
        return chosen.title
    ends = dict.fromkeys(f"{value:.3g}" for value in (found[0], found[-1]))
    return f"{chosen.title} {' to '.join(ends)}"


def _other_strength(run: Run, scoring: str) -> bool:
    """Whether `gol calibrate` took another strength than an experiment has."""
    strength = run.folder.strength(scoring)
    if strength is None:
        return False
    from gol.calibration import calibration

    return strength != calibration(scoring.partition("+")[2]).default


def _setting(axes: dict[str, Any], result: Evaluation) -> str:
    """Dataset, images, engine and protocol in one line; the evaluation files hold the rest."""
    protocol = []
    for key, value in result.protocol.items():
        if isinstance(value, list) and value:
            value = f"{value[0]}–{value[-1]}"
        if not isinstance(value, dict):
            protocol.append(str(value) if key == "name" else f"{key.replace('_', ' ')} {value}")
    parts = [f"dataset {Path(str(axes.get('dataset', '–'))).stem}", plural(result.images, "image")]
    return f"{', '.join([*parts, result.engine])}; protocol: {', '.join(protocol)}"


def _per_class(results: list[Evaluation]) -> tuple[ClassRow, ...]:
    values: dict[int, list[float | None]] = {}
    for entry in (entry for result in results for entry in result.per_class):
        values.setdefault(entry.id, []).append(_percent(entry.segm_AP))
    last = {entry.id: entry for result in results for entry in result.per_class}
    return tuple(
        ClassRow(identity, entry.name, entry.frequency, entry.image_count, tuple(values[identity]))
        for identity, entry in last.items()
    )


def _percent(value: float | None) -> float | None:
    return None if value is None else 100.0 * value
