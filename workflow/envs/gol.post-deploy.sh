#!/usr/bin/env bash
# Snakemake runs this in the new environment: the exact versions of pyproject.toml.
set -euo pipefail
UV_PROJECT_ENVIRONMENT="$CONDA_PREFIX" uv sync --inexact --no-dev
