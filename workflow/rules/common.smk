# The pipeline file, checked, and the names of everything that follows from it.

import shlex
import sys
from pathlib import Path

from snakemake.logging import logger
from snakemake.resources import Resources

from gol.cli.terminal import attach, draws, places
from gol.config.backbones import published_weights
from gol.config.datasets import (
    annotation_files,
    dataset_definition,
    export_files,
    image_proofs,
)
from gol.data.prepared import SPLITS, Drawn, Prepared
from gol.errors import UserError, one_line, unknown
from gol.config.experiments import trained_as
from gol.config.layout import Figure
from gol.config.pipeline import read_pipeline
from gol.config.protocols import PROTOCOLS
from gol.results.tracking_live import follow_beside
from gol.cluster.settings import Settings, setting_names
from gol.run_folder import RunFolder

# snakemake may have been called by its path; `gol` lies beside it.
BIN = shlex.quote(str(Path(sys.executable).parent))
PREFIX = f'set -euo pipefail; PATH="$PATH":{BIN}; '

# On a terminal Snakemake's process draws, and the jobs write into their logs alone.
SHOWN = workflow.output_settings
SCREEN = None
if draws() and not (
    SHOWN.verbose or SHOWN.printshellcmds or SHOWN.quiet or SHOWN.dryrun
):
    SCREEN = attach(logger, printed=("reproduce_table",))
    PREFIX += f"exec >/dev/null 2>>{shlex.quote(str(SCREEN.errors.path))}; "
shell.prefix(PREFIX)


def refuse(error, where="snakemake"):
    """Ends with the one line that bad input deserves."""
    print(f"{where}: error: {one_line(error)}", file=sys.stderr)
    sys.exit(2)


try:
    PIPELINE = read_pipeline(config)
except UserError as error:
    refuse(error, "pipeline file")

ENVIRONMENT = "../envs/gol.yaml"
RESULTS = PIPELINE.results
DATA = PIPELINE.data_folder("{dataset}")  # a pattern, as is the run folder
PREPARED = Prepared(Path(DATA))
RUN = RunFolder(PIPELINE.run_folder("{experiment}", "{seed}"))
WEIGHTS = "results/weights/{backbone}.txt"  # says where published weights are

# How training and detection run. Resources, since a change of one makes no rule run again; a
# profile's default-resources win over ours, and --set-resources over both.
SETTINGS = Settings().model_dump()
GIVEN = workflow.resource_settings


def read_here(values, where):
    """Given resources by the names that `gol launch` has for them."""
    values = Resources.from_mapping(values)
    try:
        names = setting_names([*values], where, GIVEN.resources)
    except UserError as error:
        refuse(error)
    return Resources({name: values[old].with_name(name) for old, name in names.items()})


# A larger workflow that takes this one as a module has rules and resources of its own.
MODULE = not workflow.modifier.is_main_snakefile()
LAUNCHED = [
    workflow.modifier.modify_rulename(rule)
    for rule in ("train", "detect", "detect_per_class")
]
GIVEN.overwrite_resources = {
    step: (
        read_here(values, f"set-resources of {step}")
        if step in LAUNCHED or not MODULE
        else values
    )
    for step, values in GIVEN.overwrite_resources.items()
}
if GIVEN.default_resources and not MODULE:
    GIVEN.default_resources = read_here(GIVEN.default_resources, "default-resources")
CHOSEN = GIVEN.default_resources or {}
LAUNCH = {name: value for name, value in SETTINGS.items() if name not in CHOSEN}
LAUNCH_OPTIONS = " ".join(
    f"--{name.replace('_', '-')}={{resources.{name}:q}}" for name in SETTINGS
)


def check_rules(names):
    """Ends with a line where resources are set for a rule that is none of these."""
    allowed = list(names)
    for name in GIVEN.overwrite_resources:
        if name not in allowed:
            refuse(unknown("rule", name, allowed, "set-resources"))


wildcard_constraints:
    dataset="[^/]+",
    seed="[0-9]+",
    scoring=r"[a-z_]+(\+[a-z_]+)?",
    protocol="|".join(PROTOCOLS),


def named(wildcards):
    """The dataset of a folder below data/: a name in configs/datasets, or a YAML file."""
    return PIPELINE.dataset or wildcards.dataset


def prepared(file):
    """Input function: a file of the prepared dataset of a run's experiment."""
    return lambda wildcards: str(
        file(Prepared(Path(PIPELINE.data(wildcards.experiment))))
    )


def evaluations(experiment, seeds):
    """The evaluation files of an experiment's runs, of the official protocol and of others.

    A calibrated experiment's runs are another's, and no finished ones without the scores of that.
    """
    trained = trained_as(experiment)
    scorings = [*PIPELINE.scorings(trained), *PIPELINE.scorings(experiment)]
    return expand(
        [
            str(RUN.evaluation("{scoring}", name))
            for name in ("", *PIPELINE.layout.protocols)
        ],
        experiment=trained,
        seed=seeds,
        scoring=dict.fromkeys(scorings),
    )


def scored(wildcards):
    """Input function: the evaluation files of a run, of its calibrated experiments too.

    Where the tables show some of these, of no others: a table alone asks for no more detections.
    """

    def of_run(names):
        return [name for name in names if trained_as(name) == wildcards.experiment]

    names = of_run(PIPELINE.layout.experiments) or of_run(PIPELINE.experiments)
    return sum((evaluations(name, wildcards.seed) for name in names), [])


def runs(experiments, path=RUN.path):
    """The run folders of some experiments, or a path in each; those of a calibrated one are another's."""
    names = dict.fromkeys(map(trained_as, experiments))
    return expand(str(path), experiment=names, seed=PIPELINE.seeds)


def finished(experiments):
    """All that a report of some experiments reads."""
    scores = [evaluations(experiment, PIPELINE.seeds) for experiment in experiments]
    return runs(experiments, RUN.summary) + sum(scores, [])


def figure(name):
    """A figure with its caption, and its PDF."""
    path = f"{RESULTS}/figures/{name}"
    caption = f"../report/{name if name in [*Figure] else 'comparison'}.rst"
    labels = {"figure": name.replace("_", " ")}
    drawn = report(f"{path}.png", caption=caption, category="Figures", labels=labels)
    return [drawn, f"{path}.pdf"]


def init_weights(wildcards):
    """Input function: the detector that an experiment starts from, or proof that it is there."""
    init = PIPELINE.init_of(wildcards.experiment)
    if init in published_weights():
        return ancient(WEIGHTS.format(backbone=init))
    return init if Path(init).is_file() else []


def backbone_weights(wildcards):
    """Input function: proof that an experiment's ImageNet weights are in the cache."""
    backbone = PIPELINE.pretrained_backbone(wildcards.experiment)
    return expand(WEIGHTS, backbone=backbone) if backbone else []
