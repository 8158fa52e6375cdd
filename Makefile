PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV := .venv/bin/uv
READY := .venv/.ready

.PHONY: table quick suite test gpu-check lint clean

table: $(READY)  ## the paper's table on the built-in demo
	.venv/bin/snakemake reproduce_table

quick: $(READY)  ## the same with 6 epochs instead of 16
	.venv/bin/snakemake reproduce_table --configfile configs/quick.yaml

suite: $(READY)  ## five rows, three seeds
	.venv/bin/snakemake reproduce_table --configfile configs/suite.yaml

test: $(READY)
	.venv/bin/pytest -n 2 --dist worksteal --ignore tests/slurm
	.venv/bin/pytest tests/slurm

gpu-check: $(READY)  ## what only a GPU can show; results/gpu-check
	.venv/bin/python tests/gpu/check.py

lint: $(READY)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/snakefmt --check Snakefile workflow
	.venv/bin/snakemake --lint
	.venv/bin/lint-imports

$(READY): pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet uv==0.13.9
	$(UV) sync --quiet --inexact
	touch $@

clean:
	rm -rf results mlflow.db mlartifacts .snakemake
