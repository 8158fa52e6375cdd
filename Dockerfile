# Everything that `make` installs but the developer's tools, at the versions of constraints.txt.
#
#   docker build --tag gol .      (--build-arg UV_TORCH_BACKEND=cpu where there is no GPU)
#   docker run --rm --gpus all --volume "$PWD/results:/gol/results" gol snakemake reproduce_table
#
# With Apptainer: `apptainer build gol.sif docker-daemon:gol:latest`. On Slurm each job runs in it with
# `python: "apptainer exec --nv gol.sif python"` in a profile; every rule does with the line
# `container: "gol.sif"` at the head of the Snakefile and
# `snakemake --software-deployment-method apptainer --apptainer-args --nv`.
FROM python:3.11-slim
ARG UV_TORCH_BACKEND
ENV PATH=/gol/.venv/bin:$PATH PIP_NO_CACHE_DIR=1 UV_NO_CACHE=1
WORKDIR /gol
COPY . .
RUN python3.11 -m venv .venv
RUN .venv/bin/pip install uv==0.13.9
RUN .venv/bin/uv pip install -p .venv -c constraints.txt -e '.[all]'
CMD ["gol", "--help"]
