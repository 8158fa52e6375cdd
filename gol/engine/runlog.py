"""What a run writes while it trains: one JSON object an iteration, and progress for people."""

import math
import resource
import sys
import time
from datetime import timedelta
from pathlib import Path

from gol.errors import UserError, first_few
from gol.files import write_text
from gol.files.digests import log_lines, sealed_line

_LINE_EVERY = 10  # iterations between lines of metrics.jsonl
_TEXT_EVERY = 5.0  # seconds between lines on the screen


class RunLog:
    """Appends to ``metrics.jsonl`` and prints progress with throughput and remaining time.

    Args:
        path: the file; lines after ``start`` (of a run that was killed) are dropped, and damaged
            ones, which it says.
        start: iterations already done.
        total: iterations in all.
        epoch_length: iterations an epoch.
        name: the run's name on the screen.
    """

    def __init__(self, path: Path, start: int, total: int, epoch_length: int, name: str) -> None:
        self.path, self.start, self.total = path, start, total
        self.epoch_length, self.name = epoch_length, name
        shorten(path, start)
        self.started = self.printed = time.monotonic()
        self.images, self.paused = 0, 0.0

    def pause(self, seconds: float) -> None:
        """Leaves out so many seconds of the throughput; the remaining time foresees more such."""
        self.paused += seconds

    def add(self, iteration: int, images: int, values: dict[str, float], end: bool = False) -> None:
        """Records that ``iteration`` iterations are done, the last with these values.

        Args:
            iteration: how many.
            images: of the last one.
            values: of the last one.
            end: whether it may be the very last.
        """
        end |= iteration == self.total
        self.images += images
        now = time.monotonic()
        elapsed = now - self.started
        rate = self.images / (elapsed - self.paused)
        eta = elapsed / (iteration - self.start) * (self.total - iteration)
        line = {
            "time": time.time(),
            "iteration": iteration,
            "epoch": iteration / self.epoch_length,
            **values,
            "images_per_second": rate,
            "eta_seconds": eta,
            "memory_gb": peak_memory() / 1e9,
        }
        if iteration % _LINE_EVERY == 0 or end:
            append(self.path, line)
        if now - self.printed > _TEXT_EVERY or iteration == self.total:
            self.printed = now
            left = timedelta(seconds=round(eta))
            print(
                f"{self.name}  iteration {iteration}/{self.total}  epoch {line['epoch']:.1f}  "
                f"loss {values['loss']:.3f}  lr {values['lr']:.4f}  {rate:.1f} img/s  left {left}",
                file=sys.stderr,
                flush=True,
            )


def append(path: Path, line: dict) -> None:
    """Appends a line with a checksum of its own to a log.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            # A skipped float16 step has no finite gradient, and JSON no word for that.
            finite = {
                k: None if isinstance(v, float) and not math.isfinite(v) else v
                for k, v in line.items()
            }
            file.write(sealed_line(finite))
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def peak_memory() -> int:
    """Most bytes that this process has held: of the GPU's memory where it uses one."""
    import torch

    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def shorten(path: Path, last: int) -> list[dict]:
    """Drops a log's lines after the iteration ``last``, and damaged ones; returns the others."""
    damaged, texts, kept = [], [], []
    for number, (text, line) in enumerate(log_lines(path) if path.exists() else (), start=1):
        iteration = (line or {}).get("iteration")
        if not isinstance(iteration, int):
            damaged.append(number)
        elif iteration <= last:
            texts.append(f"{text}\n")
            kept.append(line)
    if damaged:
        text = f"{path}: damaged and left out: line {first_few(damaged)}"
        print(text, file=sys.stderr, flush=True)
    write_text(path, "".join(texts))
    return kept
