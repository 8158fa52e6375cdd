"""The long tables of the report page, as lines of text cells with the head first."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from gol.errors import plural
from gol.evaluation.diagnosis import Diagnosis
from gol.files import read_json
from gol.groups import GROUPS
from gol.results.bill import Bill, detection_label
from gol.results.difference_file import Compared
from gol.results.rows import ClassRow, Row, mean_text
from gol.results.runs import Run
from gol.results.tables import signed

_CONFUSIONS = 20
_LONGEST = 80  # characters of a value of a config
# Who a run is, and what is not compared: names, seeds, folders and published numbers.
_IDENTITY = ("experiment", "label", "seed", "compare", "published", "published_note")

Lines = list[list[str]]


def class_lines(rows: Sequence[Row], diagnosis: Diagnosis | None) -> Lines:
    """All classes, most training images first: AP of each row, and the examined run's threshold."""
    of_row = [{each.id: each for each in row.per_class} for row in rows]
    details = {each.id: each for each in diagnosis.classes} if diagnosis else {}
    head = ["Class", "Group", "Training images", *(f"AP, {row.label}" for row in rows)]
    head += ["Objects", "Best threshold", "Precision", "Recall", "F1"] if details else []
    lines = [head]
    for each in sorted(of_row[0].values(), key=lambda each: -(each.images or 0)):
        images = "–" if each.images is None else f"{each.images:,}"
        line = [each.name, GROUPS.get(each.group, each.group), images]
        line += [_ap(classes.get(each.id)) for classes in of_row]
        if found := details.get(each.id):
            line.append(str(found.objects))
            if found.threshold is None:
                line += ["–"] * 4
            else:
                scores = (found.precision, found.recall, found.f1)
                line += [f"{found.threshold:.3g}", *(f"{score:.2f}" for score in scores)]
        lines.append(line + [""] * (len(head) - len(line)))
    return lines


def _ap(each: ClassRow | None) -> str:
    return mean_text(each.values if each else ()).strip()


def confusion_lines(diagnosis: Diagnosis) -> Lines:
    """The most frequent confusions of two classes."""
    classes, matrix = diagnosis.classes, diagnosis.confusion[:-1, :-1].copy()
    np.fill_diagonal(matrix, 0)
    order = np.argsort(-matrix, axis=None, kind="stable")[:_CONFUSIONS]
    lines = [["Object is", "Found as", "Times", "% of its class"]]
    for row, column in zip(*np.unravel_index(order, matrix.shape), strict=True):
        if times := int(matrix[row, column]):
            share = f"{100 * times / classes[row].objects:.0f}"
            lines.append([classes[row].name, classes[column].name, str(times), share])
    return lines


def cost_lines(runs: Sequence[Run]) -> Lines:
    """What the training and the detections of each run took, and the sum."""
    everything = [cost for run in runs for cost in run.costs]
    bill = Bill(everything)
    rest = ["Iterations", "Parameters", "Device", "Processes"]
    lines = [["Training", *bill.heads, *rest]]
    for run in runs:
        train, who = run.train, run.identity
        device = run.training_cost.device or train.device
        facts = [f"{train.iterations:,}", f"{train.parameters:,}", device, str(train.ranks)]
        lines.append([f"{who.label}, seed {who.seed}", *bill.cells([run.training_cost]), *facts])
        for scoring, cost in run.detection_costs.items():
            label = detection_label(scoring, only=len(run.evaluations) == 1)
            lines.append([label, *bill.cells([cost]), *("" for _ in rest)])
    total = bill.cells(everything, alike=False)
    return [*lines, [f"All ({plural(len(runs), 'run')})", *total, *("" for _ in rest)]]


def version_lines(runs: Sequence[Run]) -> Lines:
    """What was trained with which versions; runs with the same are one line."""
    packages = list(dict.fromkeys(name for run in runs for name in run.train.versions))
    groups: dict[tuple[str, ...], list[str]] = {}
    for run in runs:
        versions = tuple(run.train.versions.get(name, "–") for name in packages)
        groups.setdefault(versions, []).append(f"{run.identity.label} (seed {run.identity.seed})")
    lines = [["Runs", *packages]]
    for versions, names in groups.items():
        lines.append(["all" if len(groups) == 1 else ", ".join(names), *versions])
    return lines


def difference_lines(compared: Iterable[Compared]) -> Lines:
    """Each row's difference from the baseline in each metric, with its interval; or nothing."""
    rows: dict[tuple[str, str, str], dict[str, Compared]] = {}
    for each in compared:
        who = each.experiment, each.scoring, each.label
        rows.setdefault(who, {})[each.metric] = each
    metrics = list(dict.fromkeys(metric for row in rows.values() for metric in row))
    lines = [[who[-1], *(_shift(row.get(m)) for m in metrics)] for who, row in rows.items()]
    return [["Method", *metrics], *lines] if lines else []


def _shift(each: Compared | None) -> str:
    """The difference and its interval, with a star if it is real; the baseline's own mean."""
    if each is None:
        return "–"
    if each.difference is None:
        return f"{each.mean:.1f}"
    ends = " … ".join(map(signed, (each.difference_low, each.difference_high)))
    return f"{signed(each.difference)} ({ends}){' *' if each.real else ''}"


def setting_lines(runs: Sequence[Run]) -> Lines:
    """Where the experiments' resolved configs differ: a key, and its value in each; or nothing.

    Of an experiment's seeds the first stands for all.
    """
    first: dict[str, Run] = {}
    for run in runs:
        first.setdefault(run.identity.experiment, run)
    configs = [dict(_flat(read_json(run.folder.config))) for run in first.values()]
    lines = [["Key", *(run.identity.label for run in first.values())]]
    for key in dict.fromkeys(key for config in configs for key in config):
        values = [config.get(key, "–") for config in configs]
        if len(set(values)) > 1 and key != "seed" and key.split(".")[:2][-1] not in _IDENTITY:
            lines.append([key, *values])
    return lines if len(lines) > 1 else []


def _flat(value: Any, key: str = "") -> Iterable[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{key}.{name}" if key else str(name))
    else:
        text = str(value)
        yield key, text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
