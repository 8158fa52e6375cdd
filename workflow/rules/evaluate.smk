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
