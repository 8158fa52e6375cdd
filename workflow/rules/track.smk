# Finished runs → MLflow. One rule creates the store, since several processes at once cannot.


rule store:
    output:
        touch("results/.mlflow_store"),
    log:
        "results/mlflow_store.log",
    shell:
        "gol store 2>&1 | tee {log:q}"


rule track:
    input:
        rules.store.output,
        "{run}/train.json",
        lambda wildcards: evaluations_of(wildcards.run),
    output:
        "{run}/tracked.txt",
    log:
        "{run}/logs/track.log",
    params:
        name=PIPELINE.name,
    shell:
        "gol track {wildcards.run:q} --name {params.name} 2> >(tee {log:q} >&2) > {output:q}"
