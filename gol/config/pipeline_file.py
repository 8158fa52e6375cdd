"""What a pipeline file may say; ``workflow/schemas/pipeline.schema.yaml`` is made from it.

``python -m gol.config.pipeline_file > workflow/schemas/pipeline.schema.yaml`` writes it; editors
complete and check with it.
"""

import itertools
import re
import sys
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from gol.config.model import Count, Model, Text
from gol.config.protocols import PER_CLASS, PROTOCOLS
from gol.errors import shown

_ROW = re.compile(r"[^@]+@[\w.=+-]+")
_LONGEST = 200  # bytes of a name that becomes a folder's
_FOLDER = re.compile(r"[\w.=+][\w.=+ -]*")

Changes = Annotated[dict[str, Any], Field(min_length=1)]  # dotted key to value


class Row(Model):
    """A row of its own: what differs from the experiment NAME in ``NAME@ROW``."""

    set: Changes = Field(
        description="changes to its resolved configs, on top of the pipeline's own"
    )
    label: Text | None = Field(None, description="what tables call it; by default the row's name")


def _named(item: Any) -> Any:
    """An item as name to changes; an experiment's name alone has none."""
    if not isinstance(item, str | dict):
        raise ValueError(f"must be a name, or NAME@ROW with its changes, not {shown(item)}")
    return {item: None} if isinstance(item, str) else item


def _checked(item: dict[str, Row | None]) -> dict[str, Row | None]:
    if len(item) != 1:
        raise ValueError(f"must be a name, or one NAME@ROW with its changes, not {shown(item)}")
    ((name, row),) = item.items()
    if row is not None and not _ROW.fullmatch(name):
        raise ValueError(f"must be NAME@ROW (letters, digits and . = + - _), not {shown(name)}")
    if len(name.encode()) > _LONGEST:
        raise ValueError(f"must have at most {_LONGEST} bytes, not {shown(name)}")
    return item


def _dataset(path: str) -> str:
    """A name or a file, whose own name becomes a folder's and a wildcard's value."""
    name = PurePath(path).stem
    if path.startswith("-") or not _FOLDER.fullmatch(name) or len(name.encode()) > _LONGEST:
        allowed = f"letters, digits, spaces and . = + - _, at most {_LONGEST} bytes"
        raise ValueError(f"must be a dataset or a YAML file named of {allowed}, not {shown(path)}")
    return path


def _unique(items: list[dict[str, Row | None]]) -> list[dict[str, Row | None]]:
    names = [name for item in items for name in item]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ValueError(f"names {twice} twice")
    return items


Item = Annotated[
    dict[str, Row | None],
    BeforeValidator(_named, json_schema_input_type=str | dict[str, Row]),
    AfterValidator(_checked),
]
Items = Annotated[list[Item], AfterValidator(_unique)]
Series = Annotated[dict[str, str], Field(min_length=1)]


class PipelineFile(Model):
    """What a pipeline file may say. Snakemake merges `--config key=value` into it."""

    name: str = Field(
        pattern="^[A-Za-z0-9][A-Za-z0-9_.-]*$",
        max_length=_LONGEST,
        description="folder below results/ and name of the MLflow experiment",
    )
    dataset: Annotated[str, AfterValidator(_dataset)] | None = Field(
        None,
        description="a name in configs/datasets, or a YAML file of that kind, for all experiments; "
        "without it each has its own",
    )
    experiments: Items = Field(
        [],
        description="names that `gol experiments` lists, in the order of the table's rows, or "
        "NAME@ROW: {set: …, label: …} for a row with changes; beside `tables` those that "
        "`snakemake all` trains in addition",
    )
    tables: dict[str, Annotated[Items, Field(min_length=1)]] = Field(
        {}, description="title to experiments, where several tables are wanted"
    )
    figures: dict[str, Annotated[dict[str, Series], Field(min_length=1)]] = Field(
        {},
        description="figures of AP and APr: title to model to name of a series to experiment",
    )
    variants: dict[Annotated[str, Field(pattern=r"^[\w.=+-]+$")], Changes] = Field(
        {},
        description="ROW to changes: every experiment is trained once with each, as NAME@ROW",
    )
    baseline: Text | None = Field(
        None,
        description="experiment of the tables that the others are compared with, from 3 seeds on",
    )
    seeds: Count = Field(1, description="runs per experiment, with seeds 0, 1 …")
    threads: Annotated[Count, Field(le=1024)] = Field(
        1, description="CPU threads of one run or detection"
    )
    init: Text | None = Field(
        None,
        description="the detector that all experiments start from: a name that `gol weights` "
        "lists, a file, an http or https address, or none; without it each has its own",
    )
    protocols: list[Literal[*PROTOCOLS]] = Field(
        [], description="what else to score by; the tables gain columns"
    )
    per_class: Count = Field(
        PER_CLASS, description="detections of a class by the protocols fixed and pool"
    )
    set: dict[str, Any] = Field(
        {},
        description="changes to every resolved config, dotted key to value, e.g. runner.max_epochs",
    )

    @model_validator(mode="after")
    def _with_variants(self) -> Self:
        """The file with ``variants`` written out: each experiment as so many rows."""
        if not self.variants:
            return self
        if self.figures:
            raise ValueError(
                "'figures' and 'variants': no row of a variant is in a figure; give one"
            )

        def rows(items: Items) -> Items:
            names = [name for item in items for name in item]
            if row := next((name for name in names if "@" in name), None):
                raise ValueError(f"{row} is a row already: with 'variants' name experiments alone")
            pairs = itertools.product(names, self.variants.items())
            return [_checked({f"{name}@{row}": Row(set=changes)}) for name, (row, changes) in pairs]

        tables = {title: rows(items) for title, items in self.tables.items()}
        written = {"experiments": rows(self.experiments), "tables": tables, "variants": {}}
        return self.model_copy(update=written)


def schema() -> str:
    """The JSON schema of a pipeline file, as YAML."""
    import yaml

    content = PipelineFile.model_json_schema()
    head = "# Made by `python -m gol.config.pipeline_file`.\n"
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head + yaml.safe_dump(
        {**draft, **content}, sort_keys=False, allow_unicode=True, width=100
    )


if __name__ == "__main__":
    sys.stdout.write(schema())
