# Finished runs → MLflow. One rule creates the store, since several processes at once cannot.


rule store:
    output:
        touch("results/.mlflow_store"),
    log:
        "results/mlflow_store.log",
    conda:
        ENVIRONMENT
    shell:
        "gol store 2>&1 | tee {log:q}"


rule track:
    input:
        rules.store.output,
        scored,
        summary=str(RUN.summary),
    output:
        str(RUN.tracked),
    log:
        str(RUN.log("track")),
    conda:
        ENVIRONMENT
    params:
        run=subpath(input.summary, parent=True),
        name=PIPELINE.name,
    shell:
        "gol track {params.run:q} --name {params.name:q} 2> {log:q} | tee {output:q}"


# The table and the figures on a run of their own, below which the others are put in order.
rule track_pipeline:
    input:
        runs(PIPELINE.layout.experiments, RUN.tracked),
        rules.table.output,
        rules.page.output,
        DIFFERENCES,
    output:
        f"{RESULTS}/mlflow.txt",
    log:
        f"{RESULTS}/logs/track_pipeline.log",
    conda:
        ENVIRONMENT
    params:
        runs=runs(PIPELINE.layout.experiments),
        name=PIPELINE.name,
        results=subpath(output[0], parent=True),
        differences=["--differences", *DIFFERENCES] if DIFFERENCES else [],
    shell:
        "gol track {params.runs:q} --name {params.name:q} --results {params.results:q}"
        " {params.differences:q} 2> {log:q} | tee {output:q}"
