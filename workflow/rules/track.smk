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
        lambda wildcards: evaluations(wildcards.experiment, wildcards.seed),
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
