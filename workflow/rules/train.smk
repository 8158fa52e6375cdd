# Resolved config → weights, one training an experiment and seed, as a submitit job.


rule config:
    input:
        f"{DATA}/classes.json",
    output:
        "{run}/config.json",
    log:
        "{run}/logs/config.log",
    params:
        experiment=experiment_of,
        seed=seed_of,
        dataset=PIPELINE.dataset,
        data=DATA,
        set=PIPELINE.settings,
    shell:
        "gol config {params.experiment:q} --run {wildcards.run:q} --seed {params.seed}"
        " --dataset {params.dataset:q} --data {params.data:q} --set {params.set:q}"
        " 2>&1 | tee {log:q}"


rule train:
    input:
        "{run}/config.json",
        f"{DATA}/train.json",
    output:
        "{run}/model.pth",
        "{run}/train.json",
    log:
        "{run}/logs/train.log",
    threads: PIPELINE.threads
    shell:
        "gol launch {wildcards.run:q} 2>&1 | tee {log:q}"
