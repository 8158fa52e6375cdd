# Metrics of runs → tables (Markdown, CSV, LaTeX), figures, and a page of everything.
# `snakemake --report` shows what is in report(), with the captions of workflow/report.


rule table:
    input:
        finished(PIPELINE.layout.experiments),
    output:
        report(
            multiext(f"{RESULTS}/table", ".md", ".csv", ".tex"),
            caption="../report/table.rst",
            category="Tables",
        ),
        [file for name in PIPELINE.layout.files for file in figure(name)],
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


if PIPELINE.baseline:

    rule differences:
        input:
            finished(PIPELINE.layout.experiments),
        output:
            report(
                multiext(f"{RESULTS}/differences", ".md", ".csv", ".json"),
                caption="../report/differences.rst",
                category="Tables",
            ),
            figure("differences"),
        log:
            f"{RESULTS}/logs/differences.log",
        conda:
            ENVIRONMENT
        params:
            runs=runs(PIPELINE.layout.experiments),
            baseline=PIPELINE.baseline,
            layout=lambda wildcards: PIPELINE.layout.text,
            out=subpath(output[0], parent=True),
        shell:
            "gol compare {params.runs:q} --baseline {params.baseline:q} --layout {params.layout:q}"
            " --out {params.out:q} 2>&1 | tee {log:q}"


DIFFERENCES = [f"{RESULTS}/differences.json"] if PIPELINE.baseline else []


rule page:
    input:
        finished(PIPELINE.layout.experiments),
        differences=DIFFERENCES,
    output:
        report(
            f"{RESULTS}/report.html",
            caption="../report/page.rst",
            category="Report",
        ),
    log:
        f"{RESULTS}/logs/page.log",
    conda:
        ENVIRONMENT
    params:
        runs=runs(PIPELINE.layout.experiments),
        layout=lambda wildcards: PIPELINE.layout.text,
        differences=["--differences", *DIFFERENCES] if DIFFERENCES else [],
    shell:
        "gol report {params.runs:q} --layout {params.layout:q} {params.differences:q} --out {output:q}"
        " 2>&1 | tee {log:q}"


# The same for all that was trained, where that is more than the tables show.
if PIPELINE.grid:

    use rule table as grid with:
        input:
            finished(PIPELINE.experiments),
        output:
            report(
                multiext(f"{RESULTS}/grid/table", ".md", ".csv", ".tex"),
                caption="../report/table.rst",
                category="Tables",
            ),
        log:
            f"{RESULTS}/logs/grid.log",
        params:
            runs=runs(PIPELINE.experiments),
            layout=lambda wildcards: PIPELINE.grid.text,
            out=subpath(output[0], parent=True),
