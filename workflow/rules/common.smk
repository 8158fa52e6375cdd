# The pipeline file, checked, and the names of everything that follows from it.

import os
import sys

from gol.errors import UserError
from gol.pipeline import read_pipeline

# `snakemake` may have been called by its path: its environment's `gol` is the right one.
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]

try:
    PIPELINE = read_pipeline(config, workflow.source_path("../schemas/pipeline.schema.yaml"))
except UserError as error:
    print(f"pipeline file: error: {error}", file=sys.stderr)
    sys.exit(2)

RESULTS = f"results/{PIPELINE.name}"
DATA = f"{RESULTS}/data"
RUNS = [
    f"{RESULTS}/runs/{experiment}/seed{seed}"
    for experiment in PIPELINE.experiments
    for seed in PIPELINE.seeds
]
TABLE = f"{RESULTS}/table.md"
TRACKED = expand("{run}/tracked.txt", run=RUNS)


wildcard_constraints:
    run=f"{RESULTS}/runs/.+/seed[0-9]+",
    scoring="[a-z_]+",


def experiment_of(wildcards):
    return wildcards.run.removeprefix(f"{RESULTS}/runs/").rpartition("/")[0]


def seed_of(wildcards):
    return wildcards.run.rpartition("/seed")[2]


def evaluations_of(run):
    experiment = run.removeprefix(f"{RESULTS}/runs/").rpartition("/")[0]
    return expand("{run}/evaluation/{scoring}.json", run=run, scoring=PIPELINE.scorings(experiment))
