# Raw data → checked annotations in one schema, and class statistics.

if PIPELINE.drawn:

    rule draw:
        output:
            expand("{data}/raw/{split}.json", data=DATA, split=["train", "val"]),
        log:
            f"{RESULTS}/logs/draw.log",
        conda:
            ENVIRONMENT
        params:
            dataset=PIPELINE.dataset,
            definition=PIPELINE.dataset_definition,
            out=subpath(output[0], parent=True),
        shell:
            "gol demo --dataset {params.dataset:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule preprocess:
    input:
        PIPELINE.annotation_files(DATA),
    output:
        expand(
            "{data}/{name}.json",
            data=DATA,
            name=["train", "val", "classes", "summary"],
        ),
        expand("{data}/{split}.store", data=DATA, split=["train", "val"]),
    log:
        f"{RESULTS}/logs/preprocess.log",
    conda:
        ENVIRONMENT
    params:
        dataset=PIPELINE.dataset,
        definition=PIPELINE.dataset_definition,
        out=subpath(output[0], parent=True),
    shell:
        "gol preprocess --dataset {params.dataset:q} --out {params.out:q} 2>&1 | tee {log:q}"
