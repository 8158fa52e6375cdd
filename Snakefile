# From data to the paper's table. `snakemake reproduce_table`, or with your own pipeline file
# `snakemake reproduce_table --configfile configs/own.yaml`.

from snakemake.utils import min_version

min_version("9.0")

if not workflow.configfiles:

    configfile: "configs/demo.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/download.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/track.smk"


rule all:
    default_target: True
    input:
        rules.table.output,
        rules.page.output,
        rules.grid.output if PIPELINE.grid else [],
        rules.differences.output if PIPELINE.baseline else [],
        runs(PIPELINE.experiments, RUN.tracked),
        rules.track_pipeline.output,


rule reproduce_table:
    input:
        runs(PIPELINE.layout.experiments, RUN.tracked),
        rules.page.output,
        rules.track_pipeline.output,
        rules.differences.output if PIPELINE.baseline else [],
        tables=multiext(
            f"{RESULTS}/", "table.md", *["differences.md"] * bool(PIPELINE.baseline)
        ),
    log:
        f"{RESULTS}/logs/reproduce_table.log",
    conda:
        "workflow/envs/gol.yaml"
    shell:
        "cat {input.tables:q} | tee {log:q}"


onstart:
    SCREEN.start() if SCREEN else None
    follow_beside(
        runs(PIPELINE.experiments), PIPELINE.name, f"{RESULTS}/logs/follow.log"
    )


onsuccess:
    SCREEN.stop() if SCREEN else None
    print(places(RESULTS))


onerror:
    SCREEN.stop() if SCREEN else None


# Snakemake itself ignores a rule that is misspelt in --set-resources. A larger workflow that takes
# this one as a module has rules of its own.
if len(workflow.included_stack) == 1:
    check_rules(known.name for known in workflow.rules)
