# Weights → detections → metrics, once for each scoring.


rule detect:
    input:
        f"{RUN}/model.pth",
        prepared(lambda data: data.store("val")),
    output:
        update(f"{RUN}/detections/{{scoring}}.json"),
    log:
        f"{RUN}/logs/detect_{{scoring}}.log",
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
        detections=f"{RUN}/detections/{{scoring}}.json",
    output:
        f"{RUN}/evaluation/{{scoring}}.json",
    log:
        f"{RUN}/logs/evaluate_{{scoring}}.log",
    conda:
        ENVIRONMENT
    shell:
        "gol evaluate {input.annotations:q} {input.detections:q} --out {output:q}"
        " 2>&1 | tee {log:q}"
