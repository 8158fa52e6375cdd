# Metrics of all runs → the table (Markdown, CSV, LaTeX) and the figures.


rule table:
    input:
        [evaluations_of(run) for run in RUNS],
        expand("{run}/train.json", run=RUNS),
    output:
        TABLE,
        expand("{results}/table.{ending}", results=RESULTS, ending=["csv", "tex"]),
    log:
        f"{RESULTS}/logs/table.log",
    params:
        runs=RUNS,
        out=RESULTS,
    shell:
        "gol table {params.runs:q} --out {params.out:q} > {log:q} 2>&1 || (cat {log:q} >&2; exit 2)"
