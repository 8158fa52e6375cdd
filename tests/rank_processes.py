"""Starts the ranks of a job as real processes, with the variables that torchrun would set."""

import json
import socket

import torch
from processes import Process

import gol
from gol.config.resolve import save_config
from gol.models.state import load_checkpoint


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_ranks(world, *command):
    """Starts ``python *command`` once a rank."""
    common = {"WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [Process(*command, RANK=rank, LOCAL_RANK=rank, **common) for rank in range(world)]


def finish(processes, timeout=1200):
    """Waits for all; returns (exit code, stdout, stderr) of each rank."""
    try:
        return [process.finish(timeout) for process in processes]
    finally:
        for process in processes:
            process.kill()


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
    length = {} if "runner.max_iters" in overrides else {"runner.max_epochs": 2}
    overrides = {
        **length,
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
    timed = ("time", "images_per_second", "eta_seconds", "memory_gb", "crc32")
    return [{key: value for key, value in line.items() if key not in timed} for line in lines]
