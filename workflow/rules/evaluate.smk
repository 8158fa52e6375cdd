# Weights → detections → metrics, once for each scoring.


rule detect:
    input:
        str(RUN.weights),
        prepared(lambda data: data.store("val")),
    output:
        update(str(RUN.detections("{scoring}"))),
    log:
        str(RUN.log("detect_{scoring}")),
    conda:
        ENVIRONMENT
    threads: PIPELINE.threads
    resources:
        **LAUNCH,
        here=0,
    params:
        run=subpath(input[0], parent=True),
    shell:
        "gol launch {params.run:q} --scoring {wildcards.scoring} --detect {output:q}"
        f" {LAUNCH_OPTIONS} 2>&1 | tee {{log:q}}"


rule evaluate:
    input:
        annotations=prepared(lambda data: data.annotations("val")),
        detections=str(RUN.detections("{scoring}")),
    output:
        str(RUN.evaluation("{scoring}")),
    log:
        str(RUN.log("evaluate_{scoring}")),
    conda:
        ENVIRONMENT
    shell:
        "gol evaluate {input.annotations:q} {input.detections:q} --out {output:q}"
        " 2>&1 | tee {log:q}"


# The best of each class over all images, for the protocols that want them.
rule detect_per_class:
    input:
        str(RUN.weights),
        prepared(lambda data: data.store("val")),
    output:
        update(str(RUN.detections("{scoring}", per_class=True))),
    log:
        str(RUN.log("detect_per_class_{scoring}")),
    conda:
        ENVIRONMENT
    threads: PIPELINE.threads
    resources:
        **LAUNCH,
        here=0,
    params:
        run=subpath(input[0], parent=True),
        per_class=PIPELINE.per_class,
    shell:
        "gol launch {params.run:q} --scoring {wildcards.scoring} --detect {output:q}"
        f" --per-class {{params.per_class}} {LAUNCH_OPTIONS} 2>&1 | tee {{log:q}}"


rule evaluate_by:
    input:
        annotations=prepared(lambda data: data.annotations("val")),
        detections=lambda wildcards: expand(
            str(RUN.detections("{scoring}", PROTOCOLS[wildcards.protocol].per_class)),
            **wildcards,
        ),
    output:
        str(RUN.evaluation("{scoring}", "{protocol}")),
    log:
        str(RUN.log("evaluate_{scoring}_{protocol}")),
    conda:
        ENVIRONMENT
    params:
        per_class=PIPELINE.per_class,
    shell:
        "gol evaluate {input.annotations:q} {input.detections:q} --protocol {wildcards.protocol}"
        " --per-class {params.per_class} --out {output:q} 2>&1 | tee {log:q}"
