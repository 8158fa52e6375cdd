"""Starts the ranks of a job as real processes, with the variables that torchrun would set."""

import os
import socket
import subprocess
import sys


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


def finish(processes, timeout=300):
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
