PYTHON ?= $(or $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null \
	&& echo $$python && break; done),$(error Python 3.11 or 3.12 is needed: PYTHON=/path/to/python make))
UV := .venv/bin/uv
INSTALL := $(UV) pip install --quiet -p .venv -c constraints.txt
READY := .venv/.ready
# The scripts of an environment name its folder: where that was moved it is made anew.
NAMED = sed -n 's/^command = .* -m venv \(--[^ ]* \)*//p' .venv/pyvenv.cfg 2>/dev/null
MOVED := $(shell named=$$($(NAMED)); [ -z "$$named" ] || [ "$$named" -ef .venv ] || echo --clear)

.PHONY: table quick suite lab test gpu-check bench lint docs constraints clean help

table: $(READY)  ## the paper's table on the built-in demo
	.venv/bin/snakemake reproduce_table

quick: $(READY)  ## the same with 6 epochs instead of 16
	.venv/bin/snakemake reproduce_table --configfile configs/quick.yaml

suite: $(READY)  ## five rows, three seeds
	.venv/bin/snakemake reproduce_table --configfile configs/suite.yaml

# Seed by seed, so that there is a table early; what is done stays.
lab: $(READY)  ## every loss over five seeds and which differences are real: hours; again: continues
	for seeds in 1 2 3 4 5; do \
		.venv/bin/snakemake reproduce_table --configfile configs/lab.yaml --config seeds=$$seeds || exit; \
	done
	cp results/lab/differences.md workflow/report/lab.md  # for docs/lab.md
	cp results/lab/figures/differences.png workflow/report/lab.png

test: $(READY)  ## the whole test suite, the one on a real Slurm included
	.venv/bin/pytest -n 2 --dist worksteal --ignore tests/slurm
	.venv/bin/pytest tests/slurm

gpu-check: $(READY)  ## what only a GPU can show; results/gpu-check
	.venv/bin/python tests/gpu/check.py

# Each benchmark writes a table and JSON into this folder; one more is one more line.
BENCH := .venv/bin/python tests/benchmarks
bench: $(READY)  ## speed and memory against mmdet and lvis-api, every result compared; results/bench
	$(BENCH)/bench_nms.py --out results/bench
	$(BENCH)/bench_masks.py --out results/bench
	$(BENCH)/bench_pipeline.py --out results/bench
	$(BENCH)/bench_training.py --out results/bench
	$(BENCH)/bench_losses.py --runs 5 --out results/bench
	$(BENCH)/bench_evaluate.py --images 200 --out results/bench
	$(BENCH)/bench_scaling.py --images 25 50 100 --out results/bench

lint: $(READY)  ## style, the workflow, and what may import what
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/snakemake --lint
	.venv/bin/lint-imports

docs: $(READY)  ## the documentation as a site: site/index.html
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict

# Torch for the CPU alone is 3 GB less to download: taken where there is neither an NVIDIA GPU nor a Slurm whose
# nodes may have one, if its index answers. UV_TORCH_BACKEND decides otherwise.
$(READY): pyproject.toml constraints.txt $(if $(MOVED),moved)
	$(PYTHON) -m venv .venv $(MOVED)
	.venv/bin/python -m pip install --quiet uv==0.13.9
	@if [ -z "$$UV_TORCH_BACKEND" ] && ! command -v nvidia-smi >/dev/null && ! command -v sbatch >/dev/null && \
		UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_TIMEOUT=5 UV_HTTP_RETRIES=0 UV_TORCH_BACKEND=cpu \
		$(INSTALL) --dry-run --no-deps torch 2>/dev/null; \
	then echo "torch for the CPU alone"; export UV_TORCH_BACKEND=cpu; fi; \
	$(INSTALL) --group dev -e '.[all]'
	@if [ -n "$(MOVED)" ] && [ -e mlflow.db ]; then .venv/bin/gol store; fi  # its artifacts moved too
	touch $@

.PHONY: moved
moved:
	@echo "this folder was moved: its environment is made anew"

constraints: $(READY)  ## exact versions of everything; UPGRADE=--upgrade takes the newest
	$(UV) pip compile --quiet --universal --python-version 3.11 --all-extras --group dev \
		--no-annotate --no-header $(UPGRADE) --output-file constraints.txt pyproject.toml
	sed "s/ ; python_full_version < '3.13'$$//; s/python_full_version < '3.13' and //" constraints.txt \
		> constraints.tmp && mv constraints.tmp constraints.txt

clean:  ## removes all results, the MLflow store too
	rm -rf results mlflow.db mlartifacts .snakemake

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
