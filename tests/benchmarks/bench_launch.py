"""What launching costs: ten launchers at once, here and on a real Slurm; planning 1,000 runs.

The jobs stand in for trainings of one second: they sleep and put the result in place. What is
reported is what comes on top. `python tests/benchmarks/bench_launch.py`, as root for the Slurm
part; it writes results/launch.md beside this file.
"""

import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tests/slurm"))

from slurm_cluster import Cluster, missing  # noqa: E402

from gol.config.resolve import fingerprint  # noqa: E402
from gol.files import write_json  # noqa: E402

RUNS, SECONDS = 10, 1.0
JOB = """#!/bin/sh
run=$(dirname "$4")
sleep {seconds}
touch "$run/model.pth"
mv "$run/prepared.json" "$run/train.json"
"""


def prepare(folder: Path) -> list[Path]:
    """Run folders whose result only waits to be put in place."""
    (folder / "train.json").write_text("[]")
    runs = [folder / f"run{index}" for index in range(RUNS)]
    for run in runs:
        config = {"gol": {}, "data": {"train": {"ann_file": str(folder / "train.json")}}}
        write_json(run / "config.json", config)
        summary = {"iterations": 1, "seconds": SECONDS, "images_per_second": 1, "device": "cpu"}
        summary |= {"parameters": 1, "started": 0.0, "finished": SECONDS}
        write_json(run / "prepared.json", {**summary, "fingerprint": fingerprint(config)})
    return runs


def launch(cluster: str, environment: dict[str, str]) -> tuple[float, list[float], list[float]]:
    """Seconds of the grid, of each launcher beyond its training, and CPU seconds of each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = folder / "job.sh"
        job.write_text(JOB.format(seconds=SECONDS))
        job.chmod(0o755)
        walls, cpus, started = [], [], {}
        begin = time.monotonic()
        for run in prepare(folder):
            command = [sys.executable, "-m", "gol", "launch", run]
            options = [f"--cluster={cluster}", f"--python={job}"]
            process = subprocess.Popen(
                [*command, *options],
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            started[process.pid] = time.monotonic()
        while started:
            pid, status, usage = os.wait4(-1, 0)
            if pid in started:
                assert status == 0, f"a launcher ended with status {status}"
                walls.append(time.monotonic() - started.pop(pid) - SECONDS)
                cpus.append(usage.ru_utime + usage.ru_stime)
        grid = time.monotonic() - begin - SECONDS
    return grid, walls, cpus


def plan() -> tuple[int, float, float]:
    """The number of runs, and the seconds of `snakemake -n` for them: wall clock and CPU."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in ("workflow", "configs", "profiles"):
            shutil.copytree(ROOT / part, folder / part)
        shutil.copy(ROOT / "Snakefile", folder)
        begin, before = time.monotonic(), os.times()
        subprocess.run(
            [Path(sys.executable).parent / "snakemake", "-n", "-q", "--config", "seeds=334"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        after = os.times()
        cpu = sum(after[2:4]) - sum(before[2:4])
        return 3 * 334, time.monotonic() - begin, cpu


def main() -> None:
    """Measures and writes the results."""
    environments = {"local": dict(os.environ)}
    if missing():
        print(f"without Slurm: {missing()}", file=sys.stderr)
        cluster = None
    else:
        cluster = Cluster(Path(tempfile.mkdtemp(prefix="gol-slurm-")))
        cluster.start()
        environments["slurm"] = cluster.environment
    lines = [
        f"`python tests/benchmarks/bench_launch.py`, {os.cpu_count()} cores ({platform.machine()}),"
        f" load {os.getloadavg()[0]:.1f} before it.",
        "",
        f"{RUNS} launchers at once, each with a job of {SECONDS:g} s; seconds beyond the job.",
        "",
        "| cluster | whole grid / runs | one launcher, median | its CPU |",
        "|---|---|---|---|",
    ]
    try:
        for name, environment in environments.items():
            grid, walls, cpus = launch(name, environment)
            lines.append(
                f"| {name} | {grid / RUNS:.2f} | {statistics.median(walls):.2f} | "
                f"{statistics.median(cpus):.2f} |"
            )
    finally:
        if cluster:
            cluster.stop()
            shutil.rmtree(cluster.root, ignore_errors=True)
    count, seconds, cpu = plan()
    lines += ["", f"`snakemake -n` with {count} trainings: {seconds:.1f} s ({cpu:.1f} s of CPU)."]
    out = Path(__file__).parent / "results/launch.md"
    out.parent.mkdir(exist_ok=True)
    out.write_text("\n".join(lines) + "\n")
    print(out.read_text())


if __name__ == "__main__":
    main()
