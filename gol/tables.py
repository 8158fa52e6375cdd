"""The results table as Markdown, CSV and LaTeX."""

import csv
import io
import textwrap
from collections.abc import Iterable, Sequence

from gol.rows import METRICS, Row, mean_std

_ABSENT = "–"


def markdown(rows: Sequence[Row]) -> str:
    """The table as Markdown whose columns also line up in a terminal.

    Published numbers stand in a line of their own under ours, so that the line with the spread
    over seeds still fits into 120 columns.
    """
    lines = [["Method", "n", *METRICS]]
    for row in rows:
        lines.append([row.label, str(len(row.seeds)), *(_text(row.values[m]) for m in METRICS)])
        if row.primary and row.published:
            published = (_text([row.published.get(m)]) for m in METRICS)
            lines.append(["↳ published", "", *published])
    costs = [["Training", "n", "seconds", "images/s", "parameters", "device"]]
    for row in rows:
        if row.primary:
            cost = (_text(row.seconds, 0), _text(row.images_per_second))
            costs.append(
                [row.training, str(len(row.seeds)), *cost, f"{row.parameters:,}", row.device]
            )
    head = (
        "Mask AP over all (AP), rare (APr), common (APc) and frequent (APf) classes and box AP "
        "(APb), × 100: mean ± sample standard deviation over n seeds."
    )
    notes = [f"**{note}**" for note in _notes(rows)]
    parts = [_wrapped([head]), _wrapped(notes), _aligned(lines), _wrapped(_settings(rows), "- ")]
    return "\n\n".join(part for part in [*parts, _aligned(costs)] if part) + "\n"


def csv_text(rows: Sequence[Row]) -> str:
    """The table as CSV: one line a row, AP values in percent points, empty where not measurable."""

    def number(value: float | None) -> str:
        return "" if value is None else f"{value:.6g}"

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [f"{m}{kind}" for m in METRICS for kind in ("", "_std", "_published")]
    cost = ["train_seconds", "images_per_second", "parameters", "device"]
    writer.writerow(
        ["label", "experiment", "scoring", "seeds", *names, *cost, "setting", "statement"]
    )
    for row in rows:
        published = (row.primary and row.published) or {}
        cells = [
            number(value)
            for metric in METRICS
            for value in (*mean_std(row.values[metric]), published.get(metric))
        ]
        seconds, speed = mean_std(row.seconds)[0], mean_std(row.images_per_second)[0]
        cells += [number(seconds), number(speed), str(row.parameters), row.device]
        head = [row.label, row.experiment, row.scoring, str(len(row.seeds))]
        writer.writerow([*head, *cells, row.setting, row.statement or ""])
    return out.getvalue()


def latex(rows: Sequence[Row]) -> str:
    """A booktabs table: our columns, then the published ones where there are any."""
    groups = ["ours", "published"] if any(row.published for row in rows) else ["ours"]
    width = len(METRICS)
    title = "".join(rf" & \multicolumn{{{width}}}{{c}}{{{group}}}" for group in groups)
    rules = "".join(
        rf"\cmidrule(lr){{{3 + i * width}-{2 + (i + 1) * width}}}" for i in range(len(groups))
    )
    lines = []
    for row in rows:
        published = (row.primary and row.published) or {}
        values = {"ours": row.values, "published": {m: [published.get(m)] for m in METRICS}}
        cells = [_text(values[group][metric]) for group in groups for metric in METRICS]
        cells = [cell.strip().replace(" ± ", r" $\pm$ ").replace(_ABSENT, "--") for cell in cells]
        lines.append(" & ".join([_escape(row.label), str(len(row.seeds)), *cells]) + r" \\")
    columns = width * len(groups)
    return "\n".join(
        [
            *(f"% {line}" for line in _settings(rows)),
            r"% needs \usepackage{booktabs}",
            rf"\begin{{tabular}}{{lr*{{{columns}}}{{l}}}}",
            r"\toprule",
            rf" &{title} \\",
            rules,
            " & ".join(["Method", "$n$", *METRICS * len(groups)]) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\smallskip{{\footnotesize {_escape(note)}}}" for note in _notes(rows)),
            "",
        ]
    )


def _escape(text: str) -> str:
    names = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    return "".join(names.get(char, f"\\{char}" if char in "&%$#_{}" else char) for char in text)


def _settings(rows: Sequence[Row]) -> list[str]:
    """One line if all rows were scored alike; else each way with the rows that it holds for."""
    held: dict[str, list[str]] = {}
    for row in rows:
        held.setdefault(row.setting, []).append(row.label)
    if len(held) == 1:
        return list(held)
    return [f"{'; '.join(labels)}: {setting}" for setting, labels in held.items()]


def _text(values: Iterable[float | None], digits: int = 1) -> str:
    mean, std = mean_std(values)
    if mean is None:
        return _ABSENT
    return f"{mean:4.{digits}f}" + ("" if std is None else f" ± {std:.{digits}f}")


def _notes(rows: Sequence[Row]) -> list[str]:
    """What the datasets ask to bear in mind, each once."""
    statements = dict.fromkeys(row.statement for row in rows if row.statement)
    return [f"Measured on {statement.rstrip('.')}." for statement in statements]


def _wrapped(lines: Iterable[str], bullet: str = "") -> str:
    indent = " " * len(bullet)
    return "\n".join(textwrap.fill(bullet + line, 100, subsequent_indent=indent) for line in lines)


def _aligned(lines: list[list[str]]) -> str:
    lines = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)
