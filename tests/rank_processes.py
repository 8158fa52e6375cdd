"""Starts the ranks of a job as real processes, with the variables that torchrun would set."""

import json
import os
import socket
import subprocess
import sys

import torch

import gol
from gol.config.resolve import save_config
from gol.models.state import load_checkpoint


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_ranks(world, *command):
    """Starts ``python *command`` once a rank; returns the processes, with text pipes."""
    port = str(free_port())
    common = {"WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={
                **os.environ,
                **common,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world)
    ]


def finish(processes, timeout=1200):
    """Waits for all; returns (exit code, stdout, stderr) of each rank."""
    try:
        outputs = [process.communicate(timeout=timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(processes, outputs, strict=True)]


def run_ranks(world, *command):
    """Runs a command on all ranks, which must succeed; returns what each wrote to stderr."""
    results = finish(start_ranks(world, *command))
    for code, _, errors in results:
        assert code == 0, errors
    return [errors for _, _, errors in results]


def train_ranks(world, run):
    """Trains a run with so many ranks on the CPU."""
    return run_ranks(world, "-m", "gol", "train", run, "--device", "cpu")


def prepare(run, data, experiment="demo/gol", **overrides):
    """Micro-batches of 2; 60 images make 7 iterations of 4 micro-batches and one of 2."""
    overrides = {
        "runner.max_epochs": 2,
        "data.samples_per_gpu": 2,
        "gol.checkpoint_interval": 5,
        "sampler": "random",
        **overrides,
    }
    save_config(gol.load_experiment(experiment, overrides, data), run)
    return run


def weights(run):
    return load_checkpoint(run / "model.pth")["state_dict"]


def assert_same_training(run, other):
    found, expected = weights(run), weights(other)
    assert found.keys() == expected.keys()
    assert not [key for key in found if not torch.equal(found[key], expected[key])]


def losses(run):
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    timed = ("time", "images_per_second", "eta_seconds")
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]
