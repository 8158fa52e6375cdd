"""Runs a training or a detection as a submitit job, here or on Slurm, and waits for its result.

The job is no part of this process: a launcher that is killed leaves it running, and the next one
follows it instead of submitting a second. The result's own files say that the work is done; the
state of the job matters only while they are missing.
"""

import time
from typing import Any

from gol.cluster.joblog import Tail, explain, find_problem, last_lines, log_path, say
from gol.cluster.jobs import JOBS
from gol.cluster.settings import Settings
from gol.cluster.slurm import FINAL, GONE, JobInfo
from gol.cluster.tasks import Work
from gol.errors import JobFailed, UserError
from gol.files import read_json, write_json

_VISIBLE = 30.0  # seconds until a file that another machine wrote is seen here
_CANCEL = 120.0  # seconds to wait for a cancelled job
#: Ends that are nobody's fault: not counted where a new checkpoint was reached.
_BENIGN = {"PREEMPTED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", "REQUEUED", GONE}


def launch(work: Work, settings: Settings) -> Any:
    """Submits the work or follows the job that does it already, until the result is there.

    Progress (rank 0's log) and the job's state go to stderr. A job that ended early is submitted
    again. Failures are counted until a new checkpoint is reached, and so are preemptions,
    time-outs and lost nodes where none is.

    Args:
        work: a training or a detection.
        settings: where and how.

    Returns:
        ``work.result``.

    Raises:
        UserError: no such run, bad input (said by the job), another configuration's files, or
            sbatch refuses.
        JobFailed: the job failed too often, or somebody else cancelled it.
        KeyboardInterrupt: passed on after the job was cancelled.
    """
    from filelock import FileLock, Timeout

    mark = work.mark()
    try:
        work.record.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(work.record.with_name(f".{work.record.stem}.lock"))
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            say(f"another launcher follows {work.title}; waiting for it")
            held = lock.acquire()
        with held:
            return _Launcher(work, settings, mark).run()
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or work.record}: {error.strerror}"
        ) from error


class _Launcher:
    """The one launcher that holds the lock of its work."""

    def __init__(self, work: Work, settings: Settings, mark: str) -> None:
        self.work, self.settings, self.mark = work, settings, mark
        self.folder = work.run / "logs"
        self.record: dict[str, Any] = {}
        self.failures, self.restarts, self.begun = 0, 0, work.begun()

    @property
    def jobs(self) -> Any:
        """The kind of jobs that the record's is of."""
        return JOBS[self.record["cluster"]]

    def run(self) -> Any:
        """Until the result is there."""
        if (result := self.work.result(self.mark)) is not None:
            return result
        if self.work.record.exists():
            self.record = read_json(self.work.record)
        try:
            alive = self._find_alive() if self.record else None
            alive = self._refuse_others(alive)
            ended = None
            while (result := self.work.result(self.mark)) is None:
                if ended:
                    self._judge(ended)
                if not alive:
                    self._submit()
                ended, alive = self._follow(), None
            return result
        except KeyboardInterrupt:
            self._cancel()
            raise

    def _find_alive(self) -> JobInfo | None:
        """The job of an earlier launcher, unless it has ended for good."""
        said, ended = False, None
        while True:
            info = self.jobs.find(self.record)
            if info is None:
                if not said:
                    say(f"Slurm does not answer about {self.work.title}; waiting")
                said = True
            elif not _over(info) and self.record.get("id"):
                self.restarts = info.restarts
                say(f"following job {info.id} of {self.work.title}")
                return info
            elif not _over(info):
                ended = None
            else:
                ended = ended or time.monotonic()
                if time.monotonic() - ended >= self.jobs.settle:
                    return None
            time.sleep(self.jobs.poll)

    def _refuse_others(self, alive: JobInfo | None) -> JobInfo | None:
        """Never mixes two configurations; returns the job that may be followed."""
        restart = self.settings.changed == "restart"
        changed = bool(self.record) and self.record["mark"] != self.mark
        if changed and alive:
            finished = self.work.result(self.record["mark"]) is not None  # it only tidies up
            if not (restart or finished):
                raise UserError(
                    f"job {alive.id} does {self.work.title} with another configuration: wait for "
                    "it, cancel it, or use --changed restart"
                )
            self._cancel()
            alive = None
        if self.work.foreign(self.mark, changed):
            if not restart:
                raise UserError(self.work.other())
            say(f"{self.work.title} starts over with another configuration")
            self.work.clear()
        return alive

    def _submit(self) -> None:
        """Writes down what is about to be submitted, submits it, and writes down its id."""
        before = self.record
        self.record = {
            "cluster": self.settings.cluster,
            "name": self.work.name,
            "mark": self.mark,
            "submitted": time.time(),
        }
        self.restarts = 0
        self.work.prepare()
        write_json(self.work.record, self.record)
        try:
            self.record |= self.jobs.submit(self.work, self.folder, self.settings)
        except UserError:
            if before:  # it says whose the files in the folder are
                write_json(self.work.record, before)
            else:
                self.work.record.unlink()
            raise
        write_json(self.work.record, self.record)
        say(f"job {self.record['id']} submitted for {self.work.title}")

    def _follow(self) -> JobInfo | None:
        """Shows the job's progress until it has ended for good, or the result is there."""
        tail = Tail(log_path(self.folder, self.record["id"]))
        said, ended = "", None
        while True:
            info = self.jobs.find(self.record)
            tail.show()
            if self.work.result(self.mark) is not None:
                return None
            state = "of unknown state: Slurm does not answer" if info is None else info.state
            if info and _over(info):
                ended = ended or time.monotonic()
                settle = _VISIBLE if info.state == "COMPLETED" else self.jobs.settle
                if time.monotonic() - ended >= settle or self._problem():
                    return info
            elif info:
                ended = None
                if info.restarts > self.restarts:
                    self.restarts = info.restarts
                    self._count("REQUEUED")
                if info.state == "PENDING" and info.reason not in ("", "None"):
                    state += f" ({info.reason})"
            if state != said and state not in ("RUNNING", GONE):
                say(f"job {self.record['id']} is {state.lower()}")
            said = state
            time.sleep(self.jobs.poll)

    def _problem(self) -> str | None:
        return find_problem(self.folder, self.record["id"])

    def _judge(self, ended: JobInfo) -> None:
        """Raises what ends the launcher; returns if the job is to be submitted again."""
        problem = self._problem()
        if problem:
            raise UserError(problem)
        if ended.state == "CANCELLED":
            raise JobFailed(self._message("was", explain("CANCELLED", self.folder, ended.id)))
        self._count(ended.state)

    def _count(self, state: str) -> None:
        """Counts an end without progress; cancels the job and raises when there were too many."""
        begun = self.work.begun()
        advanced, self.begun = begun != self.begun, begun
        before = 0 if advanced else self.failures
        self.failures = before + (not advanced or state not in _BENIGN)
        reason = explain(state, self.folder, self.record["id"])
        if self.failures >= self.settings.tries:
            self._cancel()
            times = f"failed {self.failures} times" if self.failures > 1 else "failed"
            raise JobFailed(self._message(f"{times}, without progress; at last:", reason))
        count = f" (failure {self.failures} of {self.settings.tries})" if self.failures else ""
        say(f"job {self.record['id']} ended: {reason}{count}; it goes on")

    def _message(self, what: str, reason: str) -> str:
        identity = self.record["id"]
        return (
            f"{self.work.title} {what} {reason}; the same command continues it\n"
            f"last lines of {log_path(self.folder, identity)}:\n"
            f"{last_lines(self.folder, identity)}"
        )

    def _cancel(self) -> None:
        """Cancels the job and waits until it is gone."""
        if not self.record:
            return
        self.jobs.cancel(self.record)
        end = time.monotonic() + _CANCEL
        while time.monotonic() < end:
            info = self.jobs.find(self.record)
            if info and _over(info):
                return
            time.sleep(self.jobs.poll)
        say(f"job {self.record.get('id')} could not be cancelled yet: try `scancel` again")


def _over(info: JobInfo) -> bool:
    return info.state in FINAL or info.state == GONE
