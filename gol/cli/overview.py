"""Verbs that look ahead and write nothing: what there is, what it takes, what is missing."""

from pathlib import Path
from typing import Any

from gol.cli.verbs import JSON, STORE, Result, dataset_names, option, positive, verb, whole
from gol.errors import UserError


@verb(JSON)
def experiments() -> Result:
    """List the experiments, their axes and their published numbers."""
    from gol.config import experiments as known

    names = known.experiments()
    entries = [{"name": name, **known.experiment(name).model_dump()} for name in names]
    return Result(entries, "\n".join(map(_experiment_line, entries)))


def _experiment_line(entry: dict[str, Any]) -> str:
    axes = " ".join(f"{axis}={value}" for axis, value in entry["axes"].items())
    line = f"{entry['name']:<58} {axes}"
    if entry["published"] and not entry["compare"]:
        values = " ".join(f"{key} {value}" for key, value in entry["published"].items())
        line += f"  published: {values}"
    return line


@verb(
    option("pipeline", type=Path, help="pipeline file, e.g. configs/lvis.yaml"),
    option(
        "--dataset", complete=dataset_names, help="as `snakemake --config dataset=…` would name it"
    ),
    option("--throughput", type=positive, help="training images per second of one GPU"),
    option("--measured", type=Path, nargs="+", default=[], help="finished runs to take it from"),
    option("--gpus", type=whole(1), help="GPUs that work at once"),
    JSON,
)
def plan(
    pipeline: Path,
    dataset: str | None,
    throughput: float | None,
    measured: list[Path],
    gpus: int | None,
) -> Result:
    """Estimate what a pipeline takes before it starts: images, GPU-hours, disk, downloads."""
    from gol.cli.plan import check_counted, estimate
    from gol.cli.plan_table import format_plan
    from gol.config.pipeline import read_pipeline
    from gol.files import read_yaml

    content = read_yaml(pipeline)
    if not isinstance(content, dict):
        raise UserError(f"{pipeline} is not a pipeline file")
    checked, options = read_pipeline(content), ["--configfile", str(pipeline)]
    if dataset:
        checked = read_pipeline({**content, "dataset": dataset})
        options += ["--config", f"dataset={dataset}"]
    check_counted(checked, options)
    found = estimate(checked, throughput, measured, gpus)
    return Result(found.values(), format_plan(found, options))


@verb(
    option("--dataset", complete=dataset_names, help="dataset whose files to look for"),
    STORE,
    JSON,
)
def doctor(dataset: str | None, store: str) -> Result:
    """Check data, packages, GPUs, disk, weights, Slurm and MLflow; exit code 1 for problems."""
    from gol.cli.doctor import MISSING, diagnose

    checks = []
    for check in diagnose(dataset, store):
        checks.append(check._asdict())
        print(f"{check.status:<8} {check.name:<14} {check.text}", flush=True)
    return Result(checks, code=int(any(check["status"] == MISSING for check in checks)))
