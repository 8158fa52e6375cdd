"""`snakemake --profile slurm all` on the demo's grid, undisturbed and with everything happening."""

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import yaml
from signals import default_signals

pytestmark = pytest.mark.slow

BIN = Path(sys.executable).parent
TRAININGS, DETECTIONS = 3, 4
RUNS = [f"results/small/runs/demo/{name}/seed0" for name in ("sigmoid", "softmax", "gumbel")]
#: A site's own profile: 2 nodes × 2 tasks with a (fake) GPU each; one task for detections.
SITE = {
    "nodes": 2,
    "tasks_per_node": 2,
    "gpus_per_node": 2,
    "cpus_per_task": 1,
    "mem_mb": 1000,
    "device": "cpu",
}


def make_checkout(folder, root):
    """What the workflow needs, and a pipeline of three short trainings on a small demo."""
    for name in ("workflow", "configs", "profiles"):
        shutil.copytree(root / name, folder / name)
    shutil.copy(root / "Snakefile", folder)
    (folder / "slurm").symlink_to("profiles/slurm")
    dataset = yaml.safe_load((folder / "configs/datasets/demo.yaml").read_text())
    dataset["draw"] = {"seed": 1, "train_images": 24, "val_images": 8, "classes": 12}
    dataset["num_classes"] = 12
    (folder / "data.yaml").write_text(yaml.safe_dump(dataset))
    pipeline = {
        "name": "small",
        "dataset": "data.yaml",
        "experiments": ["demo/sigmoid", "demo/softmax", "demo/gumbel"],
        "set": {"runner.max_epochs": 4, "gol.checkpoint_interval": 2},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(pipeline))
    detect = {**SITE, "tasks_per_node": 1, "gpus_per_node": 1}
    site = {"set-resources": {"train": SITE, "detect": detect}}
    (folder / "profiles/lab").mkdir()
    (folder / "profiles/lab/config.yaml").write_text(yaml.safe_dump(site))
    return folder


def command(*arguments):
    profile = ["--profile", "slurm", "--profile", "profiles/lab"]
    return [str(BIN / "snakemake"), "all", *profile, "--configfile", "small.yaml", *arguments]


def snakemake(cluster, folder, *arguments):
    return subprocess.run(
        command(*arguments),
        cwd=folder,
        env=cluster.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )


def start(cluster, folder, *arguments):
    with open(folder / "said.txt", "a") as file:
        return subprocess.Popen(
            command(*arguments),
            cwd=folder,
            env=cluster.environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def wait_for(condition, seconds=300):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.2)


def jobs(cluster, folder):
    """Slurm's job ids of all that was ever submitted for this folder, with their states."""
    lines = cluster.call("squeue", "-h", "--states=all", "-o", "%i %T %Z").splitlines()
    return {
        identity: state
        for identity, state, workdir in map(str.split, lines)
        if workdir == str(folder)
    }


def alive(cluster, folder):
    running = ("PENDING", "RUNNING", "COMPLETING")
    return {key for key, state in jobs(cluster, folder).items() if state in running}


def iterations(run):
    return [json.loads(line)["iteration"] for line in (run / "metrics.jsonl").open()]


def results(folder):
    """The table without the speed of its trainings."""
    table, heading, _ = (folder / "results/small/table.md").read_text().partition("| Training")
    assert heading
    return table


@pytest.fixture(scope="module")
def undisturbed(cluster, tmp_path_factory, root):
    folder = make_checkout(tmp_path_factory.mktemp("undisturbed"), root)
    result = snakemake(cluster, folder)
    assert result.returncode == 0, result.stdout[-5000:]
    return folder


def test_the_grid_on_two_nodes(cluster, undisturbed):
    table = (undisturbed / "results/small/table.md").read_text()
    assert all(name in table for name in ("Sigmoid", "Softmax", "Gumbel"))
    assert list(jobs(cluster, undisturbed).values()) == ["COMPLETED"] * (TRAININGS + DETECTIONS)
    shapes = cluster.call("squeue", "-h", "--states=all", "-n", _names(undisturbed), "-o", "%D %C")
    assert set(shapes.split("\n")) - {""} == {"2 4"}
    for run in RUNS:
        job = json.loads((undisturbed / run / "job.json").read_text())["id"]
        assert "ranks 4" in (undisturbed / run / f"logs/{job}_0_log.out").read_text()
    # Where a job runs is no part of its result.
    for arguments in (command("-n"), [command()[0], "all", "--configfile", "small.yaml", "-n"]):
        again = subprocess.run(
            arguments, cwd=undisturbed, env=cluster.environment, capture_output=True, text=True
        )
        assert "Nothing to be done" in again.stdout + again.stderr


def _names(folder, runs=RUNS):
    records = [folder / run / "job.json" for run in runs]
    return ",".join(json.loads(record.read_text())["name"] for record in records)


@contextlib.contextmanager
def terminal(cluster, folder):
    """Snakemake in a terminal of its own; yields what Ctrl-C is typed into."""
    process, screen = pty.fork()
    if process == 0:
        default_signals()
        os.chdir(folder)
        os.execvpe(command()[0], command(), cluster.environment)
    reader = threading.Thread(target=_drain, args=(screen,), daemon=True)
    reader.start()
    try:
        yield process, screen
    finally:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        os.close(screen)


def _drain(screen):
    with contextlib.suppress(OSError):
        while os.read(screen, 1 << 16):
            pass


def test_the_grid_with_everything_happening(cluster, undisturbed, tmp_path, root):
    folder = make_checkout(tmp_path / "checkout", root)
    # One configuration cannot write its checkpoints.
    blocked = folder / RUNS[1] / "checkpoints"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")

    # Ctrl-C, once a job has trained for a while.
    with terminal(cluster, folder) as (process, screen):
        wait_for(lambda: any(folder.glob("results/small/runs/*/*/*/checkpoints/*.pth")))
        os.write(screen, b"\x03")
        wait_for(lambda: os.waitpid(process, os.WNOHANG) != (0, 0))
    assert not alive(cluster, folder)
    cancelled = set(jobs(cluster, folder))
    assert len(cancelled) <= TRAININGS

    # SIGKILL while jobs run: they stay, and nothing is submitted twice.
    killed = start(cluster, folder)
    wait_for(lambda: "RUNNING" in jobs(cluster, folder).values())
    killed.kill()
    killed.wait()
    assert alive(cluster, folder)

    # Two snakemakes at once; the failing configuration does not stop the others.
    assert snakemake(cluster, folder, "--unlock").returncode == 0
    both = [start(cluster, folder, "--nolock") for _ in range(2)]
    assert all(process.wait(900) == 1 for process in both)
    said = (folder / "said.txt").read_text()
    assert "cannot write" in said and "checkpoints" in said
    for run in (RUNS[0], RUNS[2]):
        assert (folder / run / "train.json").exists() and (folder / run / "tracked.txt").exists()
    assert not (folder / RUNS[1] / "train.json").exists()

    # The reason removed, the same command finishes the rest and trains nothing twice.
    blocked.unlink()
    last = snakemake(cluster, folder)
    assert last.returncode == 0, last.stdout[-5000:]
    assert results(folder) == results(undisturbed)
    for run in RUNS:
        assert iterations(folder / run) == iterations(undisturbed / run)
        for path in (undisturbed / run / "detections").glob("*.json"):
            assert (folder / run / "detections" / path.name).read_bytes() == path.read_bytes()
        mine = ("-h", "--states=all", "-n", _names(folder, [run]), "-o", "%T")
        states = cluster.call("squeue", *mine).split()
        # Ctrl-C may come when the result is just there: then no second job is needed.
        assert states.count("COMPLETED") <= 1 and (run == RUNS[1] or len(states) <= 2), states
    assert not alive(cluster, folder)
