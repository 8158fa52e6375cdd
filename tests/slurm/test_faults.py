"""What happens to jobs on a cluster; every training ends with the weights of an undisturbed one."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from typing import ClassVar

import pytest
import torch
from signals import default_signals

import gol
from gol.config.resolve import save_config
from gol.engine.train import train
from gol.models.state import load_checkpoint

pytestmark = pytest.mark.slow

EPOCHS, ITERATIONS = 10, 300  # of two images


def prepare(run, data, **overrides):
    settings = {
        "runner.max_epochs": EPOCHS,
        "data.samples_per_gpu": 2,
        "gol.global_batch": 2,
        "gol.checkpoint_interval": 10,
        "optimizer.lr": 0.002,
    }
    save_config(gol.load_experiment("demo/gumbel", {**settings, **overrides}, data), run)
    return run


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, demo_data):
    """The training in this process, without any launcher."""
    run = prepare(tmp_path_factory.mktemp("undisturbed") / "run", demo_data)
    train(run, "cpu")
    return run


@pytest.fixture(autouse=True)
def no_launcher_stays():
    yield
    for launcher in Launcher.started:
        launcher.process.kill()
        launcher.process.wait()
    Launcher.started.clear()


class Launcher:
    """`gol launch --cluster slurm` of a run, as a process; each says it to a file of its own."""

    started: ClassVar[list] = []

    def __init__(self, cluster, run, *options, prefix=()):
        self.run = run
        self.log = run.with_suffix(f".launcher{len(self.started)}.log")
        command = [sys.executable, "-m", "gol", "launch", run, "--cluster=slurm", "--device=cpu"]
        with open(self.log, "a") as file:
            self.process = subprocess.Popen(
                [*prefix, *command, *options],
                env=cluster.environment,
                stdout=file,
                stderr=file,
                start_new_session=True,
                preexec_fn=default_signals,
            )

        self.started.append(self)

    def wait(self, seconds=400):
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(self.said()) from None

    def said(self):
        return self.log.read_text()

    @property
    def job(self):
        wait_for(lambda: self.run.joinpath("job.json").exists() and self._id(), self)
        return self._id()

    def _id(self):
        return json.loads((self.run / "job.json").read_text()).get("id")


def wait_for(condition, launcher=None, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        alive = launcher is None or launcher.process.poll() is None
        assert alive and time.monotonic() < end, launcher.said() if launcher else "in vain"
        time.sleep(0.1)


def checkpoint(run):
    names = [path.name for path in run.glob("checkpoints/iteration_*.pth")]
    return int(max(names).split("_")[1].split(".")[0]) if names else 0


def wait_for_progress(launcher):
    """Until the job has run on for two checkpoints, and is far from done."""
    before = checkpoint(launcher.run)
    wait_for(lambda: checkpoint(launcher.run) >= before + 20, launcher)
    assert checkpoint(launcher.run) < ITERATIONS - 30, "the training is too short for this test"


def restarts(cluster, job):
    return int(cluster.call("squeue", "-h", "--states=all", "-j", job, "-O", "RestartCnt"))


def wait_for_restart(cluster, launcher, count):
    """Until the job runs again; what it did while it was being ended is no progress."""
    wait_for(lambda: restarts(cluster, launcher.job) >= count, launcher)
    state = ("squeue", "-h", "-j", launcher.job, "-o", "%T")
    wait_for(lambda: cluster.call(*state).strip() == "RUNNING", launcher)


def assert_nothing_lost(run, undisturbed, jobs=1):
    """Same weights, every tenth iteration logged once, and no more jobs than stated."""
    expected = load_checkpoint(undisturbed / "model.pth")["state_dict"]
    found = load_checkpoint(run / "model.pth")["state_dict"]
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(10, ITERATIONS + 1, 10))
    assert_resumed(run)
    submitted = list((run / "logs").glob("*_submission.sh"))
    assert len(submitted) == jobs, submitted


def assert_resumed(run):
    """Every start but the first continued from a checkpoint, and never from an earlier one."""
    logs = sorted((run / "logs").glob("*_log.out"), key=lambda path: path.stat().st_mtime)
    said = "".join(path.read_text() for path in logs)
    starts = said.count("learning rate ")
    continued = [int(n) for n in re.findall(r"continues after iteration (\d+)", said)]
    assert continued == sorted(continued) and all(continued)
    assert len(continued) >= starts - 1, said


def test_one_training_through_every_kind_of_requeue(cluster, tmp_path, demo_data, undisturbed):
    run = prepare(tmp_path / "run", demo_data)
    launcher = Launcher(cluster, run)
    wait_for_progress(launcher)
    job = launcher.job

    cluster.call("scancel", "--signal=USR2", job)
    wait_for_restart(cluster, launcher, 1)

    wait_for_progress(launcher)
    cluster.call("scontrol", "requeue", job)
    wait_for_restart(cluster, launcher, 2)

    wait_for_progress(launcher)
    urgent = "sbatch --wait -p urgent -N2 --exclusive -o /dev/null --wrap true"
    cluster.call(*urgent.split(), timeout=120)
    wait_for_restart(cluster, launcher, 3)
    log = (run / f"logs/{job}_0_log.out").read_text()
    assert log.count("Calling checkpoint method") == 2  # the preempted job was warned too

    wait_for_progress(launcher)
    node = cluster.call("squeue", "-h", "-j", job, "-o", "%N").strip()
    cluster.kill_node(node)
    wait_for_restart(cluster, launcher, 4)
    cluster.start_node(node)

    wait_for_progress(launcher)
    cluster.stop_controller()
    time.sleep(10)
    cluster.start_controller()

    assert launcher.wait() == 0, launcher.said()
    assert_nothing_lost(run, undisturbed)
    assert restarts(cluster, job) == 4


def test_a_real_time_out(cluster, tmp_path, demo_data, undisturbed):
    run = prepare(tmp_path / "run", demo_data)
    launcher = Launcher(cluster, run, "--signal-delay=25")
    job = launcher.job
    wait_for_progress(launcher)
    minutes, seconds = cluster.call("squeue", "-h", "-j", job, "-o", "%M").split(":")
    limit = int(minutes) + (1 if int(seconds) < 15 else 2)  # 45 to 105 seconds more
    cluster.call("scontrol", "update", f"JobId={job}", f"TimeLimit={limit}")
    while not restarts(cluster, job):
        # A slow machine, so that the training does not end before its time does.
        for number, seconds in ((signal.SIGSTOP, 0.4), (signal.SIGCONT, 0.1)):
            for process in cluster.tasks(f"SLURM_JOB_ID={job}"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, number)
            time.sleep(seconds)
    cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    assert launcher.wait() == 0, launcher.said()
    assert "this job is" in (run / f"logs/{job}_0_log.out").read_text()
    assert_nothing_lost(run, undisturbed)
    assert restarts(cluster, job) == 1


def test_launchers_that_die_and_jobs_that_are_cancelled(cluster, tmp_path, demo_data, undisturbed):
    run = prepare(tmp_path / "run", demo_data)
    first = Launcher(cluster, run)
    wait_for_progress(first)
    job = first.job
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
        os.killpg(first.process.pid, number)
        assert first.wait() == -number
        first = Launcher(cluster, run)
        wait_for(lambda: f"following job {job}" in first.said(), first)  # noqa: B023

    second = Launcher(cluster, run)
    wait_for(lambda: "another launcher follows" in second.said(), second)
    changed = prepare(tmp_path / "other", demo_data, **{"optimizer.lr": 0.001})
    first.process.kill()
    first.wait()
    wait_for(lambda: f"following job {job}" in second.said(), second)

    cluster.call("scancel", job)
    assert second.wait() == 1
    assert "cancelled from outside" in second.said() and "iteration" in second.said()

    original = (run / "config.json").read_text()
    (run / "config.json").write_text((changed / "config.json").read_text())
    refused = Launcher(cluster, run)
    assert refused.wait() == 2 and "another configuration" in refused.said()
    (run / "config.json").write_text(original)

    # From inside a job of another shape, and with a job that was submitted but not written down.
    record = json.loads((run / "job.json").read_text())
    orphan = cluster.call(
        "sbatch", "--parsable", *f"-o /dev/null -J {record['name']} --wrap".split(), "sleep 600"
    )
    del record["id"]
    (run / "job.json").write_text(json.dumps(record))
    inside = ("srun", "--export=ALL", "-n1", "--gres=gpu:1", "--mem=1000")
    third = Launcher(cluster, run, prefix=inside)
    assert third.wait() == 0, third.said()
    states = cluster.call("squeue", "-h", "--states=all", "-j", orphan.strip(), "-o", "%T")
    assert states.strip() == "CANCELLED"
    assert_nothing_lost(run, undisturbed, jobs=2)


def test_ctrl_c_cancels_the_job(cluster, tmp_path, demo_data, undisturbed):
    run = prepare(tmp_path / "run", demo_data)
    launcher = Launcher(cluster, run)
    wait_for_progress(launcher)
    job = launcher.job
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.wait() == 130
    assert cluster.call("squeue", "-h", "-j", job, "-t", "PD,R,CG").strip() == ""
    again = Launcher(cluster, run)
    assert again.wait() == 0
    assert_nothing_lost(run, undisturbed, jobs=2)


@contextlib.contextmanager
def small_disk(folder, megabytes):
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no tmpfs here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_full_disk_is_named_and_space_is_all_it_takes(cluster, tmp_path, demo_data, undisturbed):
    with small_disk(tmp_path / "disk", 20):
        run = prepare(tmp_path / "disk/run", demo_data)
        full = Launcher(cluster, run)
        assert full.wait() == 2 and "No space left on device" in full.said(), full.said()
        remount = ["mount", "-o", "remount,size=2000m", tmp_path / "disk"]
        subprocess.run(remount, check=True)
        assert Launcher(cluster, run).wait() == 0
        assert_nothing_lost(run, undisturbed, jobs=2)


def test_a_job_that_keeps_failing_ends_with_the_reason(cluster, tmp_path, demo_data):
    run = prepare(tmp_path / "run", demo_data)
    raising = f"--python={sys.executable} -c 'raise MemoryError'"
    failing = Launcher(cluster, run, "--tries=2", raising)
    assert failing.wait() == 1
    assert "failed 2 times, without progress; at last: out of memory" in failing.said()
    assert "last lines of" in failing.said() and "MemoryError" in failing.said()
    assert len(list((run / "logs").glob("*_submission.sh"))) == 2
    refused = Launcher(cluster, run, "--slurm-partition=nowhere")
    assert refused.wait() == 2 and "invalid partition" in refused.said()
