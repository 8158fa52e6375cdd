"""The results tables as Markdown, CSV and LaTeX."""

import csv
import io
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from gol.costs import UNITS, Cost
from gol.errors import visible
from gol.results import quoting
from gol.results.bill import Bill, detection_label
from gol.results.rows import ABSENT, METRICS, Row, Tables, mean_std, mean_text

_FIXED = "AP-fixed"


def markdown(tables: Tables) -> str:
    """The tables as Markdown whose columns also line up in a terminal.

    Published numbers and the differences from them stand in lines of their own under ours, so that
    the line with the spread over seeds still fits into 120 columns. Those that were measured on
    another dataset are a column instead, since they do not compare.
    """
    head = (
        "Mask AP over all (AP), rare (APr), common (APc) and frequent (APf) classes and box AP "
        "(APb), × 100: mean ± sample standard deviation over n seeds."
    )
    rows = [row for part in tables.values() for row in part]
    head += f" {note}" if (note := other_protocols(rows)) else ""
    if any(row.differences for row in rows):
        head += " Difference: ours − published."
    if sources := sorted({source for row in rows if (source := _elsewhere(row))}):
        head += f" Published ({', '.join(sources)}): the paper's AP / APr, on other data."
    parts = [wrapped([head]), wrapped(f"**{quoting.markdown(note)}**" for note in notes(rows))]
    for title, part in tables.items():
        parts += [
            f"## {quoting.markdown(title)}" if title else "",
            aligned(table_lines(part)),
            wrapped(map(quoting.markdown, remarks(part)), "- "),
        ]
    words, costs = _costs(rows)
    parts += ["## Cost" if any(tables) else "", wrapped([words]), aligned(costs)]
    return "\n\n".join(part for part in parts if part) + "\n"


def other_protocols(rows: Sequence[Row]) -> str:
    """What the columns of other protocols are, if there are any."""
    heads = [*rows[0].beside] if rows else []
    if not heads:
        return ""
    note = f"{', '.join(heads)}: other protocols, × 100, which do not compare with AP."
    gain = " Gain: on the table's first row, by AP → by AP-fixed."
    return note + gain * (_FIXED in heads)


def records(tables: Tables) -> list[dict[str, Any]]:
    """The tables as one dict per row: AP values in percent points, None where there is none."""
    return [_record(title, row) for title, rows in tables.items() for row in rows]


def _record(title: str, row: Row) -> dict[str, Any]:
    published, differences = (row.primary and row.published) or {}, row.differences
    record = {
        "table": title,
        "label": row.label,
        "experiment": row.experiment,
        "scoring": row.scoring,
        "seeds": len(row.seeds),
        "published_on": row.published_on if published else None,
    }
    for metric in METRICS:
        record[metric], record[f"{metric}_std"] = mean_std(row.values[metric])
        record[f"{metric}_published"] = published.get(metric)
        record[f"{metric}_difference"] = differences.get(metric)
    record |= {
        "train_seconds": mean_std(row.seconds)[0],
        "images_per_second": mean_std(row.images_per_second)[0],
        "parameters": row.parameters,
        "device": row.device,
        "setting": row.setting,
        "statement": row.statement,
        "published_note": row.published_note if published else None,
        **_cost_record("training", row.training_costs),
        **_cost_record("detection", row.detection_costs),
        "detection_images_per_second": mean_std(
            cost.images_per_second for cost in row.detection_costs
        )[0],
    }
    for (
        head,
        values,
    ) in row.beside.items():  # last: older readers find their columns where they were
        record[head], record[f"{head}_std"] = mean_std(values)
    return record


def _cost_record(task: str, costs: Sequence[Cost]) -> dict[str, float | None]:
    """Sums over the seeds, and the highest memory of one; None unless all are known."""
    record = {f"{task}_{unit.lower()}_hours": [c.hours_of(unit) for c in costs] for unit in UNITS}
    record[f"{task}_energy_kwh"] = [cost.energy_kwh for cost in costs]
    memory = [cost.memory_gb for cost in costs]
    return {
        **{key: None if None in values else sum(values) for key, values in record.items()},
        f"{task}_peak_memory_gb": None if None in memory else max(memory),
    }


def csv_text(rows: Sequence[dict[str, Any]]) -> str:
    """Records as CSV, numbers to six digits, empty where there is none."""
    out = io.StringIO()
    writer = csv.DictWriter(out, rows[0] if rows else (), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: _csv(value) for key, value in row.items()})
    return out.getvalue()


def _csv(value: Any) -> Any:
    if isinstance(value, str):
        return quoting.csv_cell(value)
    return f"{value:.6g}" if isinstance(value, float) else value


def latex(tables: Tables) -> str:
    """Booktabs tables with the lines of the Markdown."""
    rows = [row for part in tables.values() for row in part]
    out = [r"% needs \usepackage{booktabs}"]
    for title, part in tables.items():
        head, *lines = table_lines(part)
        out += [rf"\par\medskip\textbf{{{quoting.latex(title)}}}\par\smallskip"] if title else []
        out += [
            *(f"% {visible(line)}" for line in remarks(part)),
            rf"\begin{{tabular}}{{lr*{{{len(head) - 2}}}{{l}}}}",
            r"\toprule",
            " & ".join(map(_tex, head)) + r" \\",
            r"\midrule",
            *(" & ".join(map(_tex, line)) + r" \\" for line in lines),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    footnotes = (rf"\par\smallskip{{\footnotesize {quoting.latex(note)}}}" for note in notes(rows))
    return "\n".join([*out, *footnotes, ""])


def table_lines(rows: Sequence[Row]) -> list[list[str]]:
    """The cells of a table, its head first; all lines have the same number.

    Published numbers of another dataset are a column, for each such dataset one.
    """
    sources = sorted({source for row in rows if (source := _elsewhere(row))})
    more = [*_beside(rows[0], rows[0]), *(f"published ({source})" for source in sources)]
    lines = [["Method", "n", *METRICS, *more]]
    for row in rows:
        first, *others = _lines(row)
        shown = [*_beside(row, rows[0]).values()]
        shown += [_pair(row) if source == _elsewhere(row) else "" for source in sources]
        lines += [first + shown, *(line + [""] * len(more) for line in others)]
    return lines


def _beside(row: Row, first: Row) -> dict[str, str]:
    """Heads and cells of other protocols."""
    cells = {}
    for head, values in row.beside.items():
        cells[head] = mean_text(values)
        if head == _FIXED:
            cells["gain"] = _gain(row, first)
    return cells


def _gain(row: Row, first: Row) -> str:
    """What a row has more than the first one, by AP and by AP-fixed."""
    pairs = [(each.values["AP"], each.beside[_FIXED]) for each in (row, first)]
    means = [[mean_std(values)[0] for values in pair] for pair in pairs]
    if row is first or None in (*means[0], *means[1]):
        return ""
    return " → ".join(signed(ours - theirs) for ours, theirs in zip(*means, strict=True))


def _elsewhere(row: Row) -> str | None:
    """The other dataset that the row's published numbers were measured on: "LVIS v1"."""
    if not (row.primary and row.published and row.elsewhere and row.published_on):
        return None
    name, *rest = row.published_on.split("_")
    return f"{name.upper()} {'.'.join(rest)}".strip()


def _pair(row: Row) -> str:
    return " / ".join(
        mean_text([(row.published or {}).get(metric)]).strip() for metric in METRICS[:2]
    )


def _lines(row: Row) -> list[list[str]]:
    """A row's cells: ours, published and the difference, as far as these compare."""
    lines = [[row.label, str(len(row.seeds)), *(mean_text(row.values[m]) for m in METRICS)]]
    if row.primary and row.published and not row.elsewhere:
        lines.append(["↳ published", "", *(mean_text([row.published.get(m)]) for m in METRICS)])
    if row.differences:
        lines.append(["↳ difference", "", *(signed(row.differences[m]) for m in METRICS)])
    return lines


def _costs(rows: Sequence[Row]) -> tuple[str, list[list[str]]]:
    """What the columns are, and the lines: each training and detection once, and the sum."""
    trained: dict[str, Row] = {}
    for row in rows:  # one calibrated by hand may have fewer of the seeds
        known = trained.setdefault(row.trained_as, row)
        if len(row.seeds) > len(known.seeds):
            trained[row.trained_as] = row
    detected = {(row.trained_as, row.scoring): row for row in rows}
    everything = [cost for row in trained.values() for cost in row.training_costs]
    everything += [cost for row in detected.values() for cost in row.detection_costs]
    bill = Bill(everything)
    lines = [["Training", "n", *bill.heads, "parameters", "device"]]
    for name, row in trained.items():
        what = f"{row.parameters:,}", row.device
        lines.append([row.training, str(len(row.seeds)), *bill.cells(row.training_costs), *what])
        own = [each for (training, _), each in detected.items() if training == name]
        for each in own:
            label = detection_label(each.scoring, only=len(own) == 1)
            n = str(len(each.seeds))
            lines.append([label, n, *bill.cells(each.detection_costs), "", ""])
    runs = sum(len(row.seeds) for row in trained.values())
    return bill.words, [*lines, ["All", str(runs), *bill.cells(everything, alike=False), "", ""]]


def remarks(rows: Sequence[Row]) -> list[str]:
    """How the rows were scored, and what to know about published values; each once.

    What holds for some rows only names them.
    """
    held: dict[str, list[str]] = {}
    for row in rows:
        held.setdefault(row.setting, []).append(row.label)
    noted: dict[str, list[str]] = {}
    for row in rows:
        if row.primary and row.published and row.published_note:
            noted.setdefault(f"published values {row.published_note}", []).append(row.label)
    return [
        text if len(labels) == len(rows) else f"{'; '.join(labels)}: {text}"
        for text, labels in {**held, **noted}.items()
    ]


def notes(rows: Sequence[Row]) -> list[str]:
    """What the datasets ask to bear in mind, each once."""
    statements = dict.fromkeys(row.statement for row in rows if row.statement)
    return [f"Measured on {statement.rstrip('.')}." for statement in statements]


def _tex(cell: str) -> str:
    text = quoting.latex(cell.strip())
    symbols = {"↳": r"$\hookrightarrow$", "±": r"$\pm$", "−": "$-$", "→": r"$\to$", ABSENT: "--"}
    for symbol, command in symbols.items():
        text = text.replace(symbol, command)
    return text


def signed(value: float | None) -> str:
    """The number with its sign and one digit; a dash for none."""
    return ABSENT if value is None else f"{round(value, 1) + 0:+.1f}".replace("-", "−")


def wrapped(lines: Iterable[str], bullet: str = "") -> str:
    """Markdown in lines of at most 100 characters, each one an item where there is a bullet."""
    indent = " " * len(bullet)
    settings = {"subsequent_indent": indent, "break_long_words": False}  # a \ stays with its char
    text = "\n".join(textwrap.fill(bullet + line, 100, **settings) for line in lines)
    # What comes to stand first in a line begins no heading, list or quotation.
    return re.sub(rf"(?m)^({bullet}|{indent})(?=[-+#=>])", r"\1\\", text) if text else text


def aligned(lines: list[list[str]]) -> str:
    """A table of Markdown, its head first, whose columns line up in a terminal."""
    lines = [[quoting.markdown(cell) for cell in line] for line in lines]
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    rule = ["-" * width for width in widths]
    padded = [
        [cell.ljust(width) for cell, width in zip(line, widths, strict=True)]
        for line in [lines[0], rule, *lines[1:]]
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in padded)
