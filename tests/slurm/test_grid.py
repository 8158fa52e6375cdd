"""`snakemake --profile slurm all` on the demo's grid, undisturbed and with everything happening."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from laboratory import ASKING

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
TRAININGS, DETECTIONS = 2, 3  # the sigmoid is scored twice
RUNS = [f"results/small/runs/demo/{name}/seed0" for name in ("sigmoid", "gumbel")]
#: A site's own profile: trainings on 2 nodes with a (fake) GPU each, detections on one with 2.
COMMON = {"slurm_partition": "grid", "cpus_per_task": 1, "mem_mb": 1000, "device": "cpu"}
TRAIN = {**COMMON, "nodes": 2, "tasks_per_node": 1, "gpus_per_node": 1}
DETECT = {**COMMON, "nodes": 1, "tasks_per_node": 2, "gpus_per_node": 2}
#: Runs a command in a terminal, into which it types what comes from stdin.
TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"


def make_checkout(folder):
    """What the workflow needs, and a pipeline of two short trainings on a small demo."""
    folder.mkdir()
    for name in ("workflow", "configs", "profiles"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "Snakefile", folder)
    (folder / "slurm").symlink_to("profiles/slurm")
    dataset = yaml.safe_load((folder / "configs/datasets/demo.yaml").read_text())
    dataset["draw"] = {"seed": 1, "train_images": 24, "val_images": 8, "classes": 12}
    dataset["num_classes"] = 12
    (folder / "data.yaml").write_text(yaml.safe_dump(dataset))
    pipeline = {
        "name": "small",
        "dataset": "data.yaml",
        "experiments": ["demo/sigmoid", "demo/gumbel"],
        "set": {"runner.max_epochs": 4, "gol.checkpoint_interval": 2},
    }
    (folder / "small.yaml").write_text(yaml.safe_dump(pipeline))
    site = {"set-resources": {"train": TRAIN, "detect": DETECT}}
    (folder / "profiles/lab").mkdir()
    (folder / "profiles/lab/config.yaml").write_text(yaml.safe_dump(site))
    return folder


def command(*arguments):
    profile = ["--profile", "slurm", "--profile", "profiles/lab"]
    return [str(BIN / "snakemake"), "all", *profile, "--configfile", "small.yaml", *arguments]


def start(bench, folder, *arguments):
    return bench.start(command(*arguments), folder / "said.txt", cwd=folder)


def snakemake(bench, folder, *arguments):
    """The exit code of a whole snakemake, and all that was said in the folder so far."""
    code = bench.wait(start(bench, folder, *arguments))
    return code, (folder / "said.txt").read_text()


def jobs(bench, folder):
    """Slurm's job ids of all that was ever submitted for this folder, with their states."""
    lines = bench.cluster.call("squeue", "-h", "--states=all", "-o", "%i %T %Z").splitlines()
    return {
        identity: state
        for identity, state, workdir in map(str.split, lines)
        if workdir == str(folder)
    }


def alive(bench, folder):
    running = ("PENDING", "RUNNING", "COMPLETING")
    return {key for key, state in jobs(bench, folder).items() if state in running}


def iterations(run):
    return [json.loads(line)["iteration"] for line in (run / "metrics.jsonl").open()]


def results(folder):
    """The table without the speed of its trainings."""
    table, heading, _ = (folder / "results/small/table.md").read_text().partition("| Training")
    assert heading
    return table


def job_names(folder, runs=RUNS):
    records = [folder / run / "job.json" for run in runs]
    return ",".join(json.loads(record.read_text())["name"] for record in records)


def undisturbed_grid(bench):
    folder = make_checkout(bench.folder / "checkout")
    code, said = snakemake(bench, folder)
    assert code == 0, said[-5000:]
    return folder


def the_grid_on_two_nodes(bench):
    folder = bench.outcome(undisturbed_grid)
    table = (folder / "results/small/table.md").read_text()
    assert all(name in table for name in ("Sigmoid", "Gumbel"))
    assert list(jobs(bench, folder).values()) == ["COMPLETED"] * (TRAININGS + DETECTIONS)
    trainings = {json.loads((folder / run / "job.json").read_text())["id"] for run in RUNS}
    for job in jobs(bench, folder):
        shape = bench.cluster.call("squeue", "-h", "--states=all", "-j", job, "-o", "%D %C %b %P")
        expected = TRAIN if job in trainings else DETECT
        assert shape.split() == [
            str(expected["nodes"]),
            "2",
            f"gres:gpu:{expected['gpus_per_node']}",
            "grid",
        ]
        (log,) = folder.glob(f"results/small/runs/demo/*/seed0/logs/{job}_0_log.out")
        text = log.read_text()
        assert ("ranks 2" if job in trainings else "on each of 2 ranks") in text
    # Where a job runs is no part of its result.
    for arguments in (command("-n"), [command()[0], "all", "--configfile", "small.yaml", "-n"]):
        again = subprocess.run(
            arguments, cwd=folder, env=bench.cluster.environment, capture_output=True, text=True
        )
        assert "Nothing to be done" in again.stdout + again.stderr


def the_grid_with_everything_happening(bench):
    folder = make_checkout(bench.folder / "checkout")
    good, bad = RUNS
    # One configuration cannot have checkpoints.
    blocked = folder / bad / "checkpoints"
    blocked.parent.mkdir(parents=True)
    blocked.write_text("in the way")

    # Ctrl-C in a terminal, once a job has trained for a while.
    typing = bench.start(
        [sys.executable, "-c", TERMINAL, *command()],
        bench.folder / "terminal.txt",
        cwd=folder,
        stdin=subprocess.PIPE,
    )
    bench.wait_for(lambda: any(folder.glob("results/small/runs/*/*/*/checkpoints/*.pth")))
    typing.stdin.write(b"\x03")
    typing.stdin.flush()
    bench.wait(typing)
    assert not alive(bench, folder)
    assert len(jobs(bench, folder)) <= TRAININGS

    # SIGKILL while jobs run: they stay, and nothing is submitted twice.
    killed = start(bench, folder)
    bench.wait_for(lambda: "RUNNING" in jobs(bench, folder).values(), poll=ASKING)
    killed.kill()
    killed.wait()
    assert alive(bench, folder)

    # Two snakemakes at once; the failing configuration does not stop the others.
    assert snakemake(bench, folder, "--unlock")[0] == 0
    both = [start(bench, folder, "--nolock") for _ in range(2)]
    assert all(bench.wait(process) == 1 for process in both)
    said = (folder / "said.txt").read_text()
    assert "checkpoints: Not a directory" in said
    assert (folder / good / "train.json").exists() and (folder / good / "tracked.txt").exists()
    assert not (folder / bad / "train.json").exists()

    # The reason removed, the same command finishes the rest and trains nothing twice.
    blocked.unlink()
    code, said = snakemake(bench, folder)
    assert code == 0, said[-5000:]
    expected = bench.outcome(undisturbed_grid)
    assert results(folder) == results(expected)
    for run in RUNS:
        assert iterations(folder / run) == iterations(expected / run)
        found = (expected / run / "detections").glob("*.json")
        for path in (path for path in found if ".cost." not in path.name):
            assert (folder / run / "detections" / path.name).read_bytes() == path.read_bytes()
        mine = ("-h", "--states=all", "-n", job_names(folder, [run]), "-o", "%T")
        states = bench.cluster.call("squeue", *mine).split()
        # Ctrl-C may come when the result is just there: then no second job is needed.
        assert states.count("COMPLETED") <= 1 and (run == bad or len(states) <= 2), states
    assert not alive(bench, folder)


@pytest.mark.parametrize(
    "scenario",
    [the_grid_with_everything_happening, the_grid_on_two_nodes],
    ids=lambda scenario: scenario.__name__,
)
def test_grid(laboratory, scenario):
    laboratory.outcome(scenario)
