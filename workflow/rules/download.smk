# Network → data/ and torch.hub's cache. Each file has a job of its own and is fetched only if missing:
# Snakemake removes the outputs of a job before it starts it.

import re

from gol.sources.raw import downloads, proof

DOWNLOADS = {str(proof(entry)): name for name, entry in downloads().items()}


rule download:
    output:
        "{file}",
    log:
        "results/logs/download/{file}.log",
    wildcard_constraints:
        file="|".join(re.escape(file) for file in DOWNLOADS),
    conda:
        ENVIRONMENT
    params:
        name=lambda wildcards: DOWNLOADS[wildcards.file],
    shell:
        "gol download {params.name:q} 2>&1 | tee {log:q}"


rule weights:
    output:
        WEIGHTS,
    log:
        "results/logs/weights_{backbone}.log",
    conda:
        ENVIRONMENT
    shell:
        "gol weights {wildcards.backbone:q} 2>&1 > {output:q} | tee {log:q}"
