"""What a report shows: tables, and the figures by the names of their files."""

import json
import re
from dataclasses import dataclass, field
from enum import StrEnum

from gol.errors import UserError, shown

_LONGEST = 200  # bytes of a file's name without suffix


class Figure(StrEnum):
    """The figures of every report, by the names of their files without suffix."""

    GROUPS = "ap_by_group"
    CLASSES = "ap_per_class"
    CURVES = "training_loss"
    GRADIENTS = "loss_gradients"
    EXAMPLES = "examples"

    @property
    def file(self) -> str:
        """The name of the file."""
        return f"{self}.png"


DIFFERENCES = "differences"  #: name of the figure of rows beside a baseline


@dataclass(frozen=True)
class Layout:
    """What a report shows.

    Attributes:
        tables: title of a table to its experiments, in the order of the rows.
        figures: title of a figure to its groups (models), each with an experiment for each series.
        protocols: names of those whose columns the tables have beside the official one's.
    """

    tables: dict[str, list[str]]
    figures: dict[str, dict[str, dict[str, str]]] = field(default_factory=dict)
    protocols: list[str] = field(default_factory=list)

    @property
    def experiments(self) -> list[str]:
        """All experiments that are shown, each once."""
        groups = [*self.tables.values()]
        groups += [group.values() for figure in self.figures.values() for group in figure.values()]
        return list(dict.fromkeys(name for group in groups for name in group))

    @property
    def files(self) -> list[str]:
        """Names of the figures that a report writes, without suffix: each as PNG and PDF."""
        return [*(figure.value for figure in Figure), *map(file_name, self.figures)]

    @property
    def text(self) -> str:
        """As ``gol table --layout`` takes it."""
        content = {"tables": self.tables, "figures": self.figures}
        content |= {"protocols": self.protocols} if self.protocols else {}
        return json.dumps(content, ensure_ascii=False)


def file_name(title: str) -> str:
    """The name of a figure's file, without suffix."""
    return re.sub(r"\W+", "_", title.lower()).strip("_")


def check_titles(layout: Layout) -> None:
    """Refuses titles that share a place in a report: a table's, or a figure's file."""
    taken = dict.fromkeys([*Figure, DIFFERENCES], "a figure of reports")
    for title in layout.figures:
        name = file_name(title)
        if not name or len(name.encode()) > _LONGEST:
            raise UserError(
                f"figure {shown(title)}: a title needs a letter or digit, for its file, and at "
                f"most {_LONGEST} bytes"
            )
        if name in taken:
            raise UserError(f"figure '{title}': its file {name}.png is that of {taken[name]}")
        if title in layout.tables:
            raise UserError(f"figure '{title}': a table has this title; name one of them otherwise")
        taken[name] = f"figure '{title}'"
