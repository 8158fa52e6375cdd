"""What the workflow shows on a terminal: a line with a bar for each run that is in work.

Snakemake's own process draws, and nobody else writes to the terminal meanwhile: it knows which jobs
run and where their logs are, the jobs' output goes into these logs, and the bars follow what the
logs say. So it does not matter whether a job is a process or waits for Slurm, and how many there
are. Where there is no terminal nothing of this is used, and every line is printed.
"""

import atexit
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gol.errors import visible
from gol.progress import Progress, read_progress

if TYPE_CHECKING:
    from rich.table import Table

_ERROR_LINES = 12  # last lines of the log of a job that failed
_LAST = "track"  # the rule that ends a run
_PREAMBLE = ("Building DAG", "Assuming ", "Using shell", "Conda environments", "Provided ")
_REFRESH = 4  # times a second


def draws() -> bool:
    """Whether there is a terminal for bars: not in a pipe, in CI, or where colours are unwanted."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("CI")
    known = os.environ.get("TERM", "dumb") != "dumb"
    return bool(known and not plain and sys.stdout.isatty() and sys.stderr.isatty())


@dataclass
class _Log:
    """A file that grows."""

    path: Path | None
    position: int = 0

    def gained(self) -> list[str]:
        """The whole lines that are new."""
        with suppress(OSError), open(self.path or os.devnull, "rb") as file:
            file.seek(self.position)
            text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self.position += len(whole)
            return [line for line in whole.decode(errors="replace").splitlines() if line.strip()]
        return []

    def end(self) -> list[str]:
        """The last lines."""
        with suppress(OSError), open(self.path or os.devnull, errors="replace") as file:
            return file.read().splitlines()[-_ERROR_LINES:]
        return []


@dataclass
class _Job:
    """A job of Snakemake's that runs; its log says how far it is."""

    name: str
    rule: str
    log: _Log
    line: str = ""
    progress: Progress | None = None
    heard: float = 0.0

    def read(self) -> None:
        """Takes in what the log has gained."""
        for line in self.log.gained():
            self.line = line
            if found := read_progress(line):
                self.progress, self.heard = found, time.monotonic()

    @property
    def left(self) -> float | None:
        """Seconds left, counted down between two lines of the log."""
        if self.progress is None or self.progress.left is None:
            return None
        return max(self.progress.left - (time.monotonic() - self.heard), 0)


class Screen(logging.Handler):
    """Draws what Snakemake's log says; attach it to Snakemake's logger.

    Args:
        printed: rules whose output is printed at the end.
    """

    def __init__(self, printed: tuple[str, ...] = ()) -> None:
        super().__init__()
        from rich.console import Console

        self.console = Console(file=sys.stderr, highlight=False)
        self.printed, self.outputs = printed, list[Path]()
        self.jobs: dict[int, _Job] = {}
        self.begun: dict[str, float] = {}
        self.done, self.total = 0, 0
        # Not held while something is printed: whoever draws holds rich's lock first.
        self.guard = threading.Lock()
        self.live: Any = None
        self.started = False
        handle, name = tempfile.mkstemp(prefix="gol-")
        os.close(handle)
        #: Where the jobs' shells write what does not go into a log.
        self.errors = _Log(Path(name))
        atexit.register(self.stop)

    def start(self) -> None:
        """Begins to draw."""
        from rich.live import Live

        self.live = Live(
            get_renderable=self._table,
            console=self.console,
            refresh_per_second=_REFRESH,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self.live.start()
        self.started = True

    def stop(self) -> None:
        """Leaves the terminal as it was, and prints what is to be printed."""
        if self.live is not None:
            live, self.live = self.live, None
            live.stop()
            self._print(self.errors.gained())
            for path in self.outputs:
                with suppress(OSError):
                    sys.stdout.write(path.read_text(encoding="utf-8"))
            sys.stdout.flush()
        self.errors.path.unlink(missing_ok=True)

    def emit(self, record: logging.LogRecord) -> None:
        """Takes in one record of Snakemake's logger."""
        with self.guard:
            lines = self._take(record)
        if self.live:
            self._print(lines)

    def _take(self, record: logging.LogRecord) -> list[str]:
        """Takes in a record; returns what is to be printed for good."""
        event, values = getattr(record, "event", None), vars(record)
        if event == "job_info":
            self._begin(values)
        elif event == "job_finished":
            return self.errors.gained() + self._end(values["job_id"])
        elif event == "job_error":
            return self.errors.gained() + self._fail(values["jobid"])
        elif event == "progress":
            self.done, self.total = values["done"], values["total"]
        elif record.levelno >= logging.WARNING:
            return self.format(record).splitlines()
        return []

    def _print(self, lines: list[str]) -> None:
        for line in lines:
            self.console.print(visible(line), markup=False, overflow="fold")

    def hides(self, record: logging.LogRecord) -> bool:
        """Whether a record is not for Snakemake's own handler, which writes past the drawing."""
        if record.levelno >= logging.WARNING:
            return self.live is not None
        # Before the start only what every start says: `snakemake --lint` speaks like this too.
        preamble = str(record.msg).startswith(_PREAMBLE)
        return self.started or preamble or getattr(record, "event", None) is not None

    def _begin(self, values: Mapping[str, Any]) -> None:
        rule, log = values["rule_name"], next(iter(values["log"] or ()), None)
        name = _name(rule, values["wildcards"])
        self.begun.setdefault(name, time.monotonic())
        self.jobs[values["jobid"]] = _Job(name, rule, _Log(Path(str(log)) if log else None))

    def _end(self, identity: int) -> list[str]:
        job = self.jobs.pop(identity, None)
        if job and job.rule in self.printed and job.log.path:
            self.outputs.append(job.log.path)
        if job is None or job.rule != _LAST:
            return []
        return [f"{job.name}  done in {_clock(time.monotonic() - self.begun[job.name])}"]

    def _fail(self, identity: int) -> list[str]:
        job = self.jobs.pop(identity, None)
        if job is None:
            return []
        head = f"{job.name}: {job.rule} failed; {job.log.path or 'it has no log'}"
        return [head, *(f"  {line}" for line in job.log.end())]

    def _table(self) -> "Table":
        """The lines of this moment."""
        from rich.progress_bar import ProgressBar
        from rich.table import Table

        with self.guard:
            table = Table.grid(padding=(0, 2, 0, 0), expand=True)
            table.add_column(ratio=3, no_wrap=True, overflow="ellipsis")
            table.add_column(no_wrap=True)
            table.add_column(ratio=4, no_wrap=True, overflow="ellipsis")
            table.add_column(no_wrap=True, justify="right")
            rows: dict[str, _Job] = {}
            for job in self.jobs.values():
                rows.setdefault(job.name, job)
            for job in rows.values():
                job.read()
                part = job.progress and job.progress.part
                shown = _escaped(job.line) if part is None else ProgressBar(1.0, part)
                left = "" if job.left is None else _clock(job.left)
                table.add_row(_escaped(job.name), job.rule, shown, left)
            if self.total:
                bar = ProgressBar(self.total, self.done)
                table.add_row("all steps", "", bar, f"{self.done}/{self.total}")
            return table


def attach(logger: logging.Logger, printed: tuple[str, ...] = ()) -> Screen:
    """A screen on Snakemake's logger, whose own handler is silent from now on.

    Args:
        logger: ``snakemake.logging.logger``.
        printed: rules whose output is printed at the end.
    """
    screen = Screen(printed)
    for handler in logger.handlers:
        if handler.name == "DefaultStreamHandler":
            handler.addFilter(lambda record: not screen.hides(record))
            screen.setFormatter(handler.formatter)
    logger.addHandler(screen)
    return screen


def places(results: str | Path) -> str:
    """Where the results are, a line for each that is there."""
    results = Path(results)
    found = {
        "table": results / "table.md",
        "figures": results / "figures",
        "report": results / "report.html",
    }
    lines = [f"{name:<8} {path}" for name, path in found.items() if path.exists()]
    page = results / "mlflow.txt"
    if page.exists():
        server = "" if os.environ.get("MLFLOW_TRACKING_URI") else "  (first: mlflow ui)"
        lines.append(f"{'mlflow':<8} {page.read_text().strip()}{server}")
    return "\n".join(lines)


def _name(rule: str, wildcards: Mapping[str, str]) -> str:
    """What the line of a job is called: its run, else what it makes."""
    if "experiment" in wildcards:
        return f"{wildcards['experiment']} seed {wildcards.get('seed', '')}".strip()
    return next(iter(wildcards.values()), rule)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(visible(text))


def _clock(seconds: float) -> str:
    """Hours, minutes and seconds."""
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}"
