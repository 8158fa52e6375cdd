# Raw data → checked annotations in one schema, and class statistics; once for each dataset.


rule draw:
    output:
        [str(Drawn(PREPARED.raw).annotations(split)) for split in SPLITS],
    log:
        f"{RESULTS}/logs/draw_{{dataset}}.log",
    conda:
        ENVIRONMENT
    params:
        dataset=named,
        definition=lambda wildcards: dataset_definition(named(wildcards)),
        out=subpath(output[0], parent=True),
    shell:
        "gol demo --dataset {params.dataset:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule imported:
    input:
        lambda wildcards: export_files(named(wildcards)),
    output:
        [str(Drawn(PREPARED.imported).annotations(split)) for split in SPLITS],
    log:
        f"{RESULTS}/logs/imported_{{dataset}}.log",
    conda:
        ENVIRONMENT
    params:
        dataset=named,
        definition=lambda wildcards: dataset_definition(named(wildcards)),
        out=subpath(output[0], parent=True),
    shell:
        "gol import --dataset {params.dataset:q} --out {params.out:q} 2>&1 | tee {log:q}"


rule preprocess:
    input:
        lambda wildcards: annotation_files(
            named(wildcards), expand(DATA, **wildcards)[0]
        ),
        lambda wildcards: ancient(image_proofs(named(wildcards))),
    output:
        [str(PREPARED.annotations(split)) for split in SPLITS],
        [str(PREPARED.store(split)) for split in SPLITS],
        str(PREPARED.classes),
        str(PREPARED.summary),
    log:
        f"{RESULTS}/logs/preprocess_{{dataset}}.log",
    conda:
        ENVIRONMENT
    params:
        dataset=named,
        definition=lambda wildcards: dataset_definition(named(wildcards)),
        out=subpath(output[0], parent=True),
    shell:
        "gol preprocess --dataset {params.dataset:q} --out {params.out:q} 2>&1 | tee {log:q}"
