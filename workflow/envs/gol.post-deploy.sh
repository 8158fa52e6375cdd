#!/usr/bin/env bash
# Snakemake runs this in the new environment: the exact versions of constraints.txt.
set -euo pipefail
uv pip install --python "$CONDA_PREFIX/bin/python" -c constraints.txt -e '.[all]'
