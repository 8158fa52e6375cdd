# Metrics of runs → tables (Markdown, CSV, LaTeX) and figures.


rule table:
    input:
        finished(PIPELINE.layout.experiments),
    output:
        multiext(f"{RESULTS}/table", ".md", ".csv", ".tex"),
        expand(
            "{results}/figures/{name}.png", results=RESULTS, name=PIPELINE.layout.files
        ),
    log:
        f"{RESULTS}/logs/table.log",
    conda:
        ENVIRONMENT
    params:
        runs=runs(PIPELINE.layout.experiments),
        layout=lambda wildcards: PIPELINE.layout.text,
        out=subpath(output[0], parent=True),
    shell:
        "gol table {params.runs:q} --layout {params.layout:q} --out {params.out:q} > {log:q}"


# The same for all that was trained, where that is more than the tables show.
if PIPELINE.grid:

    use rule table as grid with:
        input:
            finished(PIPELINE.experiments),
        output:
            multiext(f"{RESULTS}/grid/table", ".md", ".csv", ".tex"),
        log:
            f"{RESULTS}/logs/grid.log",
        params:
            runs=runs(PIPELINE.experiments),
            layout=lambda wildcards: PIPELINE.grid.text,
            out=subpath(output[0], parent=True),
