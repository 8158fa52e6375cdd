"""Runs to train on Slurm, and `gol launch` as a process."""

import json
import sys
import threading

from laboratory import ASKING

import gol
from gol.config.resolve import save_config

EPOCHS, ITERATIONS = 4, 120  # of two images
_resolving = threading.Lock()  # mmcv's Config changes sys.path meanwhile


def prepare(run, data, **overrides):
    settings = {
        "runner.max_epochs": EPOCHS,
        "data.samples_per_gpu": 2,
        "gol.global_batch": 2,
        "gol.checkpoint_interval": 5,
        "optimizer.lr": 0.002,
    }
    with _resolving:
        config = gol.load_experiment("demo/gumbel", {**settings, **overrides}, data)
    save_config(config, run)
    return run


class Launcher:
    """`gol launch --cluster slurm` of a run, as a process; each says it to a file of its own."""

    def __init__(self, bench, run, *options, prefix=()):
        self.bench, self.run = bench, run
        number = len(list(bench.folder.glob("launcher*.log")))
        self.log = bench.folder / f"launcher{number}.log"
        command = [sys.executable, "-m", "gol", "launch", run, "--cluster=slurm", "--device=cpu"]
        self.process = bench.start([*prefix, *command, *options], self.log)

    def wait(self):
        return self.bench.wait(self.process, self.said)

    def wait_for(self, condition, poll=0.2):
        """Until the condition holds, which has to be before the launcher ends."""

        def holds():
            ended = self.process.poll() is not None
            held = condition()
            assert held or not ended, self.said()
            return held

        self.bench.wait_for(holds, self.said, poll)

    def said(self):
        return self.log.read_text()

    @property
    def job(self):
        self.wait_for(lambda: self.run.joinpath("job.json").exists() and self._id())
        return self._id()

    def _id(self):
        return json.loads((self.run / "job.json").read_text()).get("id")

    def wait_for_progress(self):
        """Until the job has run on for two checkpoints, and is far from done."""
        before = checkpoint(self.run)
        self.wait_for(lambda: checkpoint(self.run) >= before + 10)
        assert checkpoint(self.run) < ITERATIONS - 20, "the training is too short for this test"

    def restarts(self):
        state = ("squeue", "-h", "--states=all", "-j", self.job, "-O", "RestartCnt")
        return int(self.bench.cluster.call(*state))

    def wait_for_restart(self, count):
        """Until the job runs again; what it did while it was being ended is no progress."""
        self.wait_for(lambda: self.restarts() >= count, ASKING)
        state = ("squeue", "-h", "-j", self.job, "-o", "%T")
        self.wait_for(lambda: self.bench.cluster.call(*state).strip() == "RUNNING", ASKING)


def checkpoint(run):
    names = [path.name for path in run.glob("checkpoints/iteration_*.pth")]
    return int(max(names).split("_")[1].split(".")[0]) if names else 0
