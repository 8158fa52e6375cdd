"""What every benchmark shares: CPU time and memory of two engines in turns, the machine, tables."""

import argparse
import ctypes
import json
import multiprocessing
import os
import platform
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any


def machine(threads: int | None = None) -> dict[str, Any]:
    """The machine, and how busy it was."""
    import torch

    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return {
        "processor": next(names, platform.machine()),
        "cores": os.cpu_count(),
        "threads": threads or torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "load": round(os.getloadavg()[0], 1),
    }


def memory(field: str) -> float:
    """MB that Linux says of this process: VmRSS now, VmHWM at the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def peak(call: Callable[[], Any]) -> float:
    """MB of a call at its peak above what was resident before."""
    ctypes.CDLL(None).malloc_trim(0)  # gives back what is free
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = memory("VmRSS")
    call()
    return memory("VmHWM") - before


def fresh(function: Callable, *arguments: Any) -> Any:
    """What a function returns in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def in_turns(
    engines: Sequence[Callable[[], Any]],
    same: Callable[[Any, Any], bool],
    runs: int = 3,
    seconds: float = 0.0,
) -> list[float]:
    """Median CPU seconds of each engine; in every turn all must find what the first one finds.

    Args:
        engines: what is measured.
        same: compares two results.
        runs: turns at least.
        seconds: turns go on for so long.
    """
    times: list[list[float]] = [[] for _ in engines]
    stop = time.perf_counter() + seconds
    while len(times[0]) < runs or time.perf_counter() < stop:
        results = []
        for each, engine in zip(times, engines, strict=True):
            begin = time.process_time()
            results.append(engine())
            each.append(time.process_time() - begin)
        first, *others = results
        assert all(same(first, other) for other in others), "the engines differ"
    return [statistics.median(each) for each in times]


def arguments(description: str, name: str) -> argparse.ArgumentParser:
    """A parser with what all benchmarks take."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--runs", type=int, default=3, help="turns at least (default 3)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help=f"folder for {name}.md and {name}.json")
    return parser


def report(
    args: argparse.Namespace, name: str, title: str, rows: list[dict[str, Any]], note: str
) -> None:
    """Prints a Markdown table, and keeps it in ``args.out``, as text and as JSON.

    Args:
        args: as from :func:`arguments`.
        name: of the files.
        title: above the table.
        rows: column to value.
        note: what the columns are, and what was compared.
    """
    where = machine(args.threads)
    about = (
        f"{where['processor']}, {where['cores']} cores, {where['threads']} thread(s), torch "
        f"{where['torch']} with {where['instructions']}, load {where['load']}"
    )
    lines = [f"## {title}", "", f"{note} {about}.", "", *_table(rows)]
    text = "\n".join(lines) + "\n"
    print(text, flush=True)
    if args.out:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / f"{name}.md").write_text(text, encoding="utf-8")
        content = {"title": title, "machine": where, "rows": rows}
        (args.out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _table(rows: list[dict[str, Any]]) -> Iterable[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    yield f"| {' | '.join(columns)} |"
    yield "|" + " --- |" * len(columns)
    for row in rows:
        yield f"| {' | '.join(_cell(row.get(column)) for column in columns)} |"


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
