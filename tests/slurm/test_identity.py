"""Whose jobs they are, and what Slurm does not let begin; the jobs do nothing but wait or fail."""

import json
import signal
import sys
from collections import Counter

import pytest
from laboratory import scenarios
from launchers import Launcher, prepare
from slurm_cluster import ACCOUNTANTS, missing

from gol.cluster.tasks import Training, job_name

pytestmark = pytest.mark.slow

SLEEPING = "--python=sleep 600 #"


def states(bench, *jobs):
    """The states of some jobs."""
    lines = bench.cluster.call("squeue", "-h", "--states=all", "-j", ",".join(jobs), "-o", "%i %T")
    return dict(line.split() for line in lines.splitlines())


def an_id_that_the_controller_gave_to_somebody_else(bench):
    """The record of an old job names one that is not ours: it is left alone, whatever happens."""
    run = prepare(bench.folder / "run", bench.data)
    command = ("sbatch", "--parsable", "-o", "/dev/null", "-J", "theirs", "--wrap", "sleep 600")
    theirs = bench.cluster.call(*command).strip()
    task = Training(run)
    record = {"cluster": "slurm", "name": job_name(task), "fingerprint": task.fingerprint()}
    # As 0.3.0 wrote it.
    task.record.write_text(json.dumps({**record, "submitted": 1.5, "id": theirs}))
    launcher = Launcher(bench, run, SLEEPING)
    launcher.wait_for(lambda: "submitted for" in launcher.said())
    ours = launcher.job
    assert ours != theirs and "following" not in launcher.said()
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.wait() == 130
    found = states(bench, theirs, ours)
    assert found[ours] == "CANCELLED" and found[theirs] in ("PENDING", "RUNNING")
    bench.cluster.call("scancel", theirs)


def a_job_that_waits_for_ever_says_why_and_what_helps(bench):
    """It is found by its own name, which the user's environment does not change."""
    run = prepare(bench.folder / "läuft", bench.data)
    mine = ("env", "SBATCH_JOB_NAME=mine", "SBATCH_COMMENT=mine", "SBATCH_OUTPUT=/dev/full")
    mine += ("SBATCH_PARTITION=nowhere",)
    options = ("--slurm-extra=--hold", "--slurm-partition=gpu", "--tries=1", "--python=false")
    launcher = Launcher(bench, run, *options, prefix=mine)
    remedy = f"job {launcher.job} is pending (JobHeldUser): `scontrol release {launcher.job}`"
    launcher.wait_for(lambda: remedy in launcher.said())
    bench.cluster.call("scontrol", "release", launcher.job)
    assert launcher.wait() == 1
    assert launcher.said().count("JobHeldUser") == 1


def two_runs_share_a_gpu_and_the_third_takes_another(bench):
    bench.own_cluster(nodes=1)
    launchers, seen = [], []
    for number in range(3):
        run, place = prepare(bench.folder / f"run{number}", bench.data), bench.folder / str(number)
        setup = f"--setup=echo $CUDA_VISIBLE_DEVICES > {place}"
        options = ("--runs-per-gpu=2", "--gpus-per-node=1", "--cpus-per-task=1", setup)
        launchers.append(Launcher(bench, run, SLEEPING, *options))
        launchers[-1].wait_for(lambda: place.exists() and place.read_text().strip())  # noqa: B023
        seen.append(place.read_text().strip())
    assert sorted(Counter(seen).values()) == [1, 2] and set(seen) <= set("0123"), seen
    # The end of one is none of the others' business.
    launchers[0].process.send_signal(signal.SIGINT)
    assert launchers[0].wait() == 130
    jobs = [launcher.job for launcher in launchers]
    assert [states(bench, *jobs)[job] for job in jobs] == ["CANCELLED", "RUNNING", "RUNNING"]


#: Prints what sacct knows of a record's job.
ACCOUNTED = """
import sys
from pathlib import Path
from gol.cluster import slurm
from gol.cluster.jobs import JobRecord
record = JobRecord.read(Path(sys.argv[1]))
print(*[job.state for job in slurm._accounted(record) if record.is_of(job)])
"""


def a_limit_on_submitted_jobs_is_waited_for(bench):
    if reason := missing(ACCOUNTANTS):
        pytest.skip(f"no accounting: {reason}")
    cluster = bench.own_cluster(nodes=1, accounting=True)
    command = ("sbatch", "--parsable", "--qos=one", "-o", "/dev/null", "--wrap", "sleep 600")
    blocking = cluster.call(*command).strip()
    run = prepare(bench.folder / "run", bench.data)
    launcher = Launcher(bench, run, "--qos=one", "--tries=1", "--python=false")
    launcher.wait_for(lambda: "QOSMaxSubmitJobPerUserLimit" in launcher.said())
    bench.laboratory.closing.wait(7)  # the second attempt comes after five seconds
    assert launcher.said().count("\n") == 1, launcher.said()
    assert len(list((run / "logs").iterdir())) <= 2  # what is to be run, and at times its script
    cluster.call("scancel", blocking)
    assert launcher.wait() == 1 and "submitted for" in launcher.said()
    log = bench.folder / "accounted"
    asked = bench.start([sys.executable, "-c", ACCOUNTED, run / "job.json"], log)
    assert bench.wait(asked) == 0 and log.read_text() == "FAILED\n", log.read_text()


@scenarios(
    an_id_that_the_controller_gave_to_somebody_else,
    a_job_that_waits_for_ever_says_why_and_what_helps,
    two_runs_share_a_gpu_and_the_third_takes_another,
    a_limit_on_submitted_jobs_is_waited_for,
)
def test_jobs(laboratory, scenario):
    laboratory.outcome(scenario)
