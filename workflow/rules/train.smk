# Resolved config → weights: one run per experiment and seed, as a submitit job.


rule config:
    input:
        prepared(lambda data: data.classes),
        init_weights,
    output:
        str(RUN.config),
    log:
        str(RUN.log("config")),
    conda:
        ENVIRONMENT
    params:
        run=subpath(output[0], parent=True),
        data=subpath(input[0], parent=True),
        dataset=lambda wildcards: PIPELINE.dataset_of(wildcards.experiment),
        settings=lambda wildcards: PIPELINE.settings(wildcards.experiment),
        definition=lambda wildcards: PIPELINE.definition(wildcards.experiment),
    shell:
        "gol config {wildcards.experiment:q} --seed {wildcards.seed} --run {params.run:q}"
        " --dataset {params.dataset:q} --data {params.data:q} --set {params.settings:q}"
        " 2>&1 | tee {log:q}"


rule train:
    input:
        str(RUN.config),
        prepared(lambda data: data.store("train")),
        ancient(backbone_weights),
    output:
        # What a job finished while snakemake was away stays.
        update(str(RUN.weights)),
        update(str(RUN.summary)),
    log:
        str(RUN.log("train")),
    conda:
        ENVIRONMENT
    threads: PIPELINE.threads
    resources:
        **LAUNCH,
        here=0,
    params:
        run=subpath(output[0], parent=True),
    shell:
        f"gol launch {{params.run:q}} {LAUNCH_OPTIONS} 2>&1 | tee {{log:q}}"
