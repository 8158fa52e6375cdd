# The pipeline file, checked, and the names of everything that follows from it.

import shlex
import sys
from dataclasses import asdict
from pathlib import Path

from gol.errors import UserError
from gol.pipeline import read_pipeline
from gol.settings import Settings

# snakemake may have been called by its path; `gol` lies beside it.
BIN = shlex.quote(str(Path(sys.executable).parent))
shell.prefix(f'set -euo pipefail; PATH="$PATH":{BIN}; ')

try:
    PIPELINE = read_pipeline(
        config, workflow.source_path("../schemas/pipeline.schema.yaml")
    )
except UserError as error:
    print(f"pipeline file: error: {error}", file=sys.stderr)
    sys.exit(2)

ENVIRONMENT = "../envs/gol.yaml"
RESULTS = f"results/{PIPELINE.name}"
DATA = f"{RESULTS}/data"
RUN = f"{RESULTS}/runs/{{experiment}}/seed{{seed}}"  # a pattern with two wildcards
RUNS = expand(RUN, experiment=PIPELINE.experiments, seed=PIPELINE.seeds)
TRACKED = expand("{run}/tracked.txt", run=RUNS)

# How a training or detection runs. Resources, since a change of one makes no rule run again; a
# profile's default-resources win over ours, and --set-resources over both.
SETTINGS = asdict(Settings())
CHOSEN = workflow.resource_settings.default_resources or {}
LAUNCH = {name: value for name, value in SETTINGS.items() if name not in CHOSEN}
LAUNCH_OPTIONS = " ".join(
    f"--{name.replace('_', '-')}={{resources.{name}:q}}" for name in SETTINGS
)


wildcard_constraints:
    seed="[0-9]+",
    scoring="[a-z_]+",


def evaluations(experiment, seeds):
    """The evaluation files of an experiment's runs."""
    return expand(
        f"{RUN}/evaluation/{{scoring}}.json",
        experiment=experiment,
        seed=seeds,
        scoring=PIPELINE.scorings(experiment),
    )
