# Metrics of all runs → the table (Markdown, CSV, LaTeX) and the figures.


rule table:
    input:
        [evaluations(experiment, PIPELINE.seeds) for experiment in PIPELINE.experiments],
        expand("{run}/train.json", run=RUNS),
    output:
        multiext(f"{RESULTS}/table", ".md", ".csv", ".tex"),
        expand(
            "{results}/figures/{name}.png",
            results=RESULTS,
            name=["ap_by_group", "ap_per_class", "training_loss", "loss_gradients"],
        ),
    log:
        f"{RESULTS}/logs/table.log",
    conda:
        ENVIRONMENT
    params:
        runs=RUNS,
        out=subpath(output[0], parent=True),
    shell:
        "gol table {params.runs:q} --out {params.out:q} > {log:q}"
