"""What happens to jobs on a cluster; every training ends with the weights of an undisturbed one."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch
from laboratory import ASKING, scenarios
from launchers import ITERATIONS, Launcher, checkpoint, prepare

from gol.cluster.jobs import JobRecord
from gol.files.digests import seal_path

pytestmark = pytest.mark.slow


def trained_alone(bench):
    """The training without any launcher."""
    run = prepare(bench.folder / "run", bench.data)
    command = [sys.executable, "-m", "gol", "train", run, "--device=cpu"]
    log = bench.folder / "log"
    assert bench.wait(bench.start(command, log)) == 0, log.read_text()
    return run


def assert_nothing_lost(bench, run, jobs=1):
    """Same weights, every tenth iteration logged once, and no more jobs than stated."""
    expected, found = (
        torch.load(folder / "model.pth", weights_only=True)["state_dict"]
        for folder in (bench.outcome(trained_alone), run)
    )
    assert expected.keys() == found.keys()
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


def requeued_by_a_warning_by_hand_and_for_an_urgent_job(bench):
    cluster = bench.own_cluster(nodes=2)
    run = prepare(bench.folder / "run", bench.data)
    launcher = Launcher(bench, run)
    launcher.wait_for_progress()
    job = launcher.job

    cluster.call("scancel", "--signal=USR2", job)
    launcher.wait_for_restart(1)

    launcher.wait_for_progress()
    cluster.call("scontrol", "requeue", job)
    launcher.wait_for_restart(2)

    launcher.wait_for_progress()
    urgent = "sbatch --wait -p urgent -N2 --exclusive -o /dev/null --wrap true"
    cluster.call(*urgent.split(), timeout=120)
    launcher.wait_for_restart(3)
    log = (run / f"logs/{job}_0_log.out").read_text()
    assert log.count("Calling checkpoint method") == 2  # the preempted job was warned too

    assert launcher.wait() == 0, launcher.said()
    assert_nothing_lost(bench, run)
    assert launcher.restarts() == 3


def a_lost_node_and_a_controller_that_is_away(bench):
    cluster = bench.own_cluster(nodes=2)
    run = prepare(bench.folder / "run", bench.data)
    launcher = Launcher(bench, run)
    launcher.wait_for_progress()
    job = launcher.job
    node = cluster.call("squeue", "-h", "-j", job, "-o", "%N").strip()
    cluster.kill_node(node)
    launcher.wait_for_restart(1)
    cluster.start_node(node)

    launcher.wait_for_progress()
    with bench.slow_machine(job):
        cluster.stop_controller()
        time.sleep(10)
        assert launcher.process.poll() is None and not (run / "train.json").exists()
        cluster.start_controller()

    assert launcher.wait() == 0, launcher.said()
    assert_nothing_lost(bench, run)
    assert launcher.restarts() == 1


def four_ranks_on_two_nodes(bench):
    short = {"runner.max_epochs": 1, "gol.global_batch": 8}
    run = prepare(bench.folder / "run", bench.data, **short)
    shape = ("--nodes=2", "--tasks-per-node=2", "--gpus-per-node=2", "--cpus-per-task=1")
    launcher = Launcher(bench, run, *shape, "--mem-mb=1000")
    assert launcher.wait() == 0, launcher.said()
    assert "ranks 4" in launcher.said()
    found = bench.cluster.call("squeue", "-h", "--states=all", "-j", launcher.job, "-o", "%D %C %b")
    assert found.split() == ["2", "4", "gres:gpu:2"]


def a_real_time_out(bench):
    run = prepare(bench.folder / "run", bench.data)
    launcher = Launcher(bench, run, "--signal-delay=25")
    job = launcher.job
    launcher.wait_for_progress()
    with bench.slow_machine(job):
        end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 45))
        bench.cluster.call("scontrol", "update", f"JobId={job}", f"EndTime={end}")
        launcher.wait_for(launcher.restarts, ASKING)
    bench.cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=60")
    assert launcher.wait() == 0, launcher.said()
    assert "this job is" in (run / f"logs/{job}_0_log.out").read_text()
    assert_nothing_lost(bench, run)
    assert launcher.restarts() == 1


def launchers_that_die_and_jobs_that_are_cancelled(bench):
    cluster, run = bench.cluster, prepare(bench.folder / "run", bench.data)
    first = Launcher(bench, run)
    first.wait_for_progress()
    job = first.job
    with bench.slow_machine(job):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
            os.killpg(first.process.pid, number)
            assert first.wait() == -number
            first = Launcher(bench, run)
            first.wait_for(lambda: f"following job {job}" in first.said())  # noqa: B023

        second = Launcher(bench, run)
        second.wait_for(lambda: "another launcher follows" in second.said())
        changed = prepare(bench.folder / "other", bench.data, **{"optimizer.lr": 0.001})
        first.process.kill()
        first.wait()
        second.wait_for(lambda: f"following job {job}" in second.said())

    cluster.call("scancel", job)
    assert second.wait() == 1
    assert "cancelled from outside" in second.said() and "iteration" in second.said()

    original = (run / "config.json").read_text()
    seal_path(run / "config.json").unlink()  # edited on purpose
    (run / "config.json").write_text((changed / "config.json").read_text())
    refused = Launcher(bench, run)
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
    third = Launcher(bench, run, prefix=inside)
    assert third.wait() == 0, third.said()
    states = cluster.call("squeue", "-h", "--states=all", "-j", orphan.strip(), "-o", "%T")
    assert states.strip() == "CANCELLED"
    assert_nothing_lost(bench, run, jobs=2)


def ctrl_c_cancels_the_job(bench):
    run = prepare(bench.folder / "run", bench.data)
    launcher = Launcher(bench, run)
    launcher.wait_for_progress()
    job = launcher.job
    launcher.process.send_signal(signal.SIGINT)
    assert launcher.wait() == 130
    assert bench.cluster.call("squeue", "-h", "-j", job, "-t", "PD,R,CG").strip() == ""
    again = Launcher(bench, run)
    assert again.wait() == 0, again.said()
    assert_nothing_lost(bench, run, jobs=2)


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


def a_full_disk_is_named_and_space_is_all_it_takes(bench):
    with small_disk(bench.folder / "disk", 20):
        run = prepare(bench.folder / "disk/run", bench.data)
        full = Launcher(bench, run)
        assert full.wait() == 2 and "No space left on device" in full.said(), full.said()
        remount = ["mount", "-o", "remount,size=2000m", bench.folder / "disk"]
        subprocess.run(remount, check=True)
        assert Launcher(bench, run).wait() == 0
        assert_nothing_lost(bench, run, jobs=2)


def a_job_that_keeps_failing_ends_with_the_reason(bench):
    run = prepare(bench.folder / "run", bench.data)
    raising = f"--python={sys.executable} -c 'raise MemoryError'"
    failing = Launcher(bench, run, "--tries=2", raising)
    assert failing.wait() == 1
    assert "failed 2 times, without progress; at last: out of memory" in failing.said()
    assert "last lines of" in failing.said() and "MemoryError" in failing.said()
    assert len(list((run / "logs").glob("*_submission.sh"))) == 2
    refused = Launcher(bench, run, "--slurm-partition=nowhere")
    assert refused.wait() == 2 and "invalid partition" in refused.said()


def a_node_whose_gpu_does_not_work_is_left_out(bench):
    """CUDA finds no driver behind the fake GPUs, which is what a broken node looks like."""
    run = prepare(bench.folder / "run", bench.data, **{"runner.max_epochs": 1})
    broken = Launcher(bench, run, "--device=cuda", "--gpus-per-node=1", "--tries=2")
    assert broken.wait() == 1
    said = broken.said()
    first, second = re.findall(r"ended: (n\d): Slurm granted GPU", said) + re.findall(
        r"at last: (n\d): Slurm granted GPU \d, but CUDA finds none: Found no NVIDIA driver", said
    )
    assert first != second and f"kept from {first}\n" in said
    assert json.loads((run / "job.json").read_text())["excluded"] == [first, second]
    # Slurm refuses to leave out every node of the partition: the one that failed first is tried.
    working = Launcher(bench, run)
    assert working.wait() == 0, working.said()
    assert f"kept from {second}\n" in working.said()
    node = bench.cluster.call("squeue", "-h", "--states=all", "-j", working.job, "-o", "%N")
    assert node.strip() == first


def images_on_the_nodes_own_disk(bench):
    """Copied by the job, again after a requeue, and gone with it; the weights are the same."""
    with small_disk(bench.folder / "disk", 100):
        run = prepare(bench.folder / "run", bench.data)
        launcher = Launcher(bench, run, f"--stage={bench.folder}/disk/$SLURM_JOB_ID")
        launcher.wait_for_progress()
        copies = bench.folder / "disk" / launcher.job
        assert len([*copies.rglob("*.jpg")]) == len([*(bench.data / "raw/train").iterdir()])
        bench.cluster.call("scancel", "--signal=USR2", launcher.job)
        launcher.wait_for_restart(1)
        assert launcher.wait() == 0, launcher.said()
        assert "not copied to this node" not in launcher.said()
        assert not [*copies.glob("*/*")]
        assert_nothing_lost(bench, run)


def several_runs_inside_one_job(bench):
    """Local launches on a granted node, as a cluster without shards lets several share a GPU."""
    good, better = (
        prepare(bench.folder / name, bench.data, **{"runner.max_epochs": 1}) for name in "ab"
    )
    launch = f"{sys.executable} -m gol launch --runs-per-gpu=3 --device"
    bad = f"{launch}=cuda:7 {prepare(bench.folder / 'bad', bench.data)}"
    script = f"{bad} & {launch}=cpu {good} & {launch}=cpu {better} & wait"
    log = bench.folder / "log"
    options = ("--requeue", "--gres=gpu:1", "--open-mode=append", f"--output={log}")
    job = bench.cluster.call("sbatch", "--parsable", *options, f"--wrap={script}").strip()
    bench.wait_for(lambda: checkpoint(good) or checkpoint(better))
    bench.cluster.call("scontrol", "requeue", job)
    for run in (good, better):  # where control groups end all processes, on another node
        record = JobRecord.read(run / "job.json")
        bench.cluster.signal(signal.SIGKILL, f"GOL_JOB={record.name}")
        record.model_copy(update={"host": "elsewhere"}).write()
    done = [run / "train.json" for run in (good, better)]
    bench.wait_for(lambda: all(path.exists() for path in done), log.read_text)
    said = log.read_text()
    assert "no device 'cuda:7'; allowed: cpu" in said
    assert said.count("continues after iteration") in (1, 2), said


@scenarios(
    requeued_by_a_warning_by_hand_and_for_an_urgent_job,
    a_lost_node_and_a_controller_that_is_away,
    four_ranks_on_two_nodes,
    a_real_time_out,
    launchers_that_die_and_jobs_that_are_cancelled,
    ctrl_c_cancels_the_job,
    a_full_disk_is_named_and_space_is_all_it_takes,
    a_job_that_keeps_failing_ends_with_the_reason,
    a_node_whose_gpu_does_not_work_is_left_out,
    images_on_the_nodes_own_disk,
    several_runs_inside_one_job,
)
def test_faults(laboratory, scenario):
    laboratory.outcome(scenario)
