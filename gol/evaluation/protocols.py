"""Protocols beside the official one of :mod:`gol.evaluation.lvis`; their numbers never mix."""

from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from gol.config.own import own_part
from gol.config.protocols import PER_CLASS, PROTOCOLS
from gol.config.resolve import read_config
from gol.data.prepared import Prepared
from gol.errors import UserError, pick
from gol.evaluation.lvis import MOST
from gol.evaluation.source import Source
from gol.files import write_json
from gol.run_folder import RunFolder


class Files(NamedTuple):
    """What is read, and where the scores are written."""

    annotations: Path
    detections: Path
    scores: Path


def evaluate_by(
    names: Sequence[str],
    annotations: str | Path,
    detections: str | Path,
    per_class: int = PER_CLASS,
    max_detections: int = MOST,
) -> dict[str, dict[str, Any]]:
    """Scores a detections file by some protocols, all of which take the same detections.

    Args:
        names: of PROTOCOLS.
        annotations: JSON in the LVIS schema.
        detections: JSON list, as of :func:`gol.evaluation.lvis.evaluate`.
        per_class: how many detections a class may have, by ``fixed`` and ``pool``.
        max_detections: how many an image may have, by the others.

    Returns:
        Name to ``protocol`` (its name and what the numbers depend on), ``images``, ``detections``
        (counts), ``warnings``, ``scores`` (row to column to a float, mostly in [0, 1], a count or
        None) and ``per_class``.

    Raises:
        UserError: an unknown protocol; a file is unreadable or not of its schema.
    """
    chosen = {name: pick("protocol", name, PROTOCOLS) for name in names}
    sources: dict[bool, Source] = {}
    results = {}
    for name, protocol in chosen.items():
        most = per_class if protocol.per_class else max_detections
        source = sources.setdefault(
            protocol.per_class, Source(annotations, detections, most, protocol.per_class)
        )
        measure: Callable[[Source], dict[str, Any]] = import_module(
            f"gol.evaluation.{name}"
        ).measure
        result = measure(source)
        results[name] = {
            "protocol": source.setting | result.pop("protocol"),
            "images": len(source.pair.truth.images),
            "detections": source.pair.count,
            "warnings": source.warnings,
            **result,
        }
    return results


def evaluate_run(
    run: str | Path, names: Sequence[str], scoring: str | None = None, per_class: int = PER_CLASS
) -> dict[str, dict[str, Any]]:
    """Scores a run's detections and writes the results beside the official one.

    Args:
        run: folder of a run that has detected.
        names: of PROTOCOLS.
        scoring: the activation of the detections; by default the config's first.
        per_class: as of :func:`evaluate_by`.

    Raises:
        UserError: an unknown protocol, unknown scoring, or detections that are not there; or as
            :func:`evaluate_by`.
    """
    chosen = {name: pick("protocol", name, PROTOCOLS) for name in names}
    files = {name: files_of_run(run, scoring, name, per_class) for name in chosen}
    results: dict[str, dict[str, Any]] = {}
    for annotations, detections in dict.fromkeys(each[:2] for each in files.values()):
        alike = [name for name, each in files.items() if each.detections == detections]
        results |= evaluate_by(alike, annotations, detections, per_class)
    for name, result in results.items():
        write_scores(result, files[name].scores)
    return {name: results[name] for name in chosen}


def files_of_run(
    run: str | Path, scoring: str | None, protocol: str = "", per_class: int = PER_CLASS
) -> Files:
    """What a run is scored by; the other arguments are those of :func:`evaluate_run`.

    Args:
        run: its folder.
        scoring: the activation of the detections.
        protocol: of PROTOCOLS; empty: the official one.
        per_class: named where the detections are missing.

    Raises:
        UserError: no config, unknown scoring, or no detections.
    """
    folder, config = RunFolder(run), read_config(run)
    scoring = own_part(config).scoring(scoring)
    wide = bool(protocol) and PROTOCOLS[protocol].per_class
    detections = folder.detections(scoring, wide)
    if not detections.is_file():
        option = f" --per-class {per_class}" if wide else ""
        raise UserError(
            f"{detections} is missing: `gol detect {run} --scoring {scoring}{option}` writes it"
        )
    annotations = Prepared(Path(config["data"]["test"]["ann_file"]).parent).annotations("val")
    return Files(annotations, detections, folder.evaluation(scoring, protocol))


def write_scores(result: dict[str, Any], path: str | Path) -> None:
    """Writes one of :func:`evaluate_by`'s results.

    Raises:
        UserError: it cannot be written.
    """
    write_json(path, result, indent=1, writer="gol evaluate")


def format_scores(result: dict[str, Any]) -> str:
    """A table that says what it is; shares in percent, "-" where there is nothing to measure."""
    setting = {key: value for key, value in result["protocol"].items() if key != "name"}
    words = [f"{key.replace('_', ' ')} {_text(value)}" for key, value in setting.items()]
    rows = result["scores"]
    columns = list(next(iter(rows.values())))
    cells = [["", *columns]]
    cells += [[name, *(_cell(row[column]) for column in columns)] for name, row in rows.items()]
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = [
        "".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], (w + 2 for w in widths[1:]))])
        for line in cells
    ]
    head = f"{result['protocol']['name']} ({', '.join(words)})"
    count = f"{result['detections']:,} detections on {result['images']:,} images"
    return "\n".join([head, count, *lines, *(f"warning: {text}" for text in result["warnings"])])


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"{value[0]}–{value[-1]}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{100 * value:.1f}"
