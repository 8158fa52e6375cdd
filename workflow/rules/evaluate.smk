# Weights → detections → metrics, once for each scoring.


rule detect:
    input:
        "{run}/model.pth",
        f"{DATA}/val.json",
    output:
        "{run}/detections/{scoring}.json",
    log:
        "{run}/logs/detect_{scoring}.log",
    threads: PIPELINE.threads
    shell:
        "gol detect {wildcards.run:q} --scoring {wildcards.scoring} --out {output:q} 2>&1 | tee {log:q}"


rule evaluate:
    input:
        annotations=f"{DATA}/val.json",
        detections="{run}/detections/{scoring}.json",
    output:
        "{run}/evaluation/{scoring}.json",
    log:
        "{run}/logs/evaluate_{scoring}.log",
    shell:
        "gol evaluate {input.annotations:q} {input.detections:q} --out {output:q} 2>&1 | tee {log:q}"
