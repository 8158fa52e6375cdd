"""Runs a training or a detection as a submitit job, here or on Slurm, and waits for its result.

The job is not part of this process: a launcher that is killed leaves it running, and the next one
follows it instead of submitting a second. The result's own files say that the task is done; the
state of the job matters only while they are missing.
"""

import re
import time
from typing import Any

from gol.cluster.joblog import Tail, bad_node, explain, last_lines, log_path, say
from gol.cluster.jobs import FINAL, GONE, NO_JOB, JobInfo, JobRecord, Jobs
from gol.cluster.judgement import Action, Sight, Tally, Verdict, judge
from gol.cluster.local import LocalJobs
from gol.cluster.outcome import Cause, read_outcome
from gol.cluster.reasons import pending
from gol.cluster.settings import Settings
from gol.cluster.slurm_jobs import SlurmJobs
from gol.cluster.tasks import Task, is_name_of, job_name
from gol.errors import JobFailed, UserError, shown
from gol.files import remove

_VISIBLE = 30.0  # seconds until a file that another machine wrote is seen here
_CANCEL = 120.0  # seconds to wait for a cancelled job
_SILENCE = 90.0  # seconds until a Slurm that has never answered counts as absent


def launch(task: Task, settings: Settings) -> Any:
    """Submits a job for the task or follows the one that does it, until the result is there.

    Progress (rank 0's log) and the job's state go to stderr. A job that ended early is submitted
    again. Failures are counted until a new checkpoint is reached, and so are preemptions,
    time-outs and lost nodes where none is.

    Args:
        task: a training or a detection.
        settings: where and how.

    Returns:
        ``task.result``.

    Raises:
        UserError: no such run, bad input (said by the job), another configuration's files, or
            sbatch refuses.
        JobFailed: the job failed too often, or somebody else cancelled it.
        KeyboardInterrupt: passed on after the job was cancelled.
    """
    from filelock import FileLock, Timeout

    fingerprint = task.fingerprint()
    try:
        task.record.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(task.record.with_name(f".{task.record.stem}.lock"))
        try:
            held = lock.acquire(timeout=0)
        except Timeout:
            say(f"another launcher follows {task.title}; waiting for it")
            held = lock.acquire()
        with held:
            if (result := task.result(fingerprint)) is not None:
                return result
            _check_place(str(task.run.logs.absolute()), settings.cluster)
            return _Launcher(task, settings, fingerprint).run()
    except OSError as error:
        raise UserError(
            f"cannot write {error.filename or task.record}: {error.strerror}"
        ) from error


def _check_place(logs: str, cluster: str) -> None:
    """Refuses what the job's script and the names of its logs cannot carry.

    Slurm and submitit replace %j and the like, and a line break would begin a command of a script.
    """
    pattern, what = r"%[jtaA]", "%j, %t, %a or %A"
    if cluster == "slurm":
        pattern, what = r"[%\\\0-\x1f\x7f]", "%, backslash or line break"
    if re.search(pattern, logs):
        raise UserError(f"a job's run folder must have no {what} in its path: {shown(logs)}")


def _jobs(cluster: str) -> Jobs:
    return SlurmJobs() if cluster == "slurm" else LocalJobs()


class _Launcher:
    """The one launcher that holds the lock of its task."""

    def __init__(self, task: Task, settings: Settings, fingerprint: str) -> None:
        self.task, self.settings, self.fingerprint = task, settings, fingerprint
        self.folder = task.run.logs
        self.tally = Tally(0, task.progress())
        self.record = JobRecord.read(task.record)
        self.jobs = _jobs(self.record.cluster if self.record else settings.cluster)
        self.begin, self.answered = time.monotonic(), False
        self._meet(followed=False)

    def _meet(self, followed: bool, restarts: int = 0) -> None:
        """Begins to look at the record's job."""
        self.followed, self.restarts = followed, restarts
        self.ended: float | None = None
        self.said, self.told = "", set[str]()
        self.tail = Tail(log_path(self.folder, self._job))

    @property
    def _job(self) -> str:
        return (self.record and self.record.id) or ""

    def run(self) -> Any:
        """Until the result is there."""
        try:
            while True:
                info = self._find()
                if self.followed:
                    self.tail.show()
                result = self.task.result(self.fingerprint)
                verdict = judge(self._see(info, result is not None))
                if verdict.action == Action.DONE:
                    return result
                self._act(verdict, info)
                time.sleep(self.jobs.poll)
        except KeyboardInterrupt:
            self._cancel()
            raise

    @property
    def _elsewhere(self) -> bool:
        """Whether the record came with a copy of another folder, whose job is left alone."""
        return self.record is not None and not is_name_of(self.task, self.record.name)

    def _find(self) -> JobInfo | None:
        """The record's job; one without an id is ended, unless it is another folder's."""
        if self.record is None or (self._elsewhere and self.record.id is None):
            return NO_JOB
        return self.jobs.find(self.record)

    def _see(self, info: JobInfo | None, done: bool) -> Sight:
        """All that the judgement depends on."""
        state = info and info.state
        over = state in FINAL
        requeued = self.followed and info is not None and info.restarts > self.restarts
        if info is not None:
            self.answered = True
            self.restarts = max(self.restarts, info.restarts)
            self.ended = (self.ended or time.monotonic()) if over else None
        settle = _VISIBLE if self.followed and state == "COMPLETED" else self.jobs.settle
        settled = self.record is None or (over and time.monotonic() - self.ended >= settle)
        outcome, reason = None, ""
        if self.followed and (over or requeued):
            outcome = read_outcome(self.folder, self._job)
        if self.followed and (requeued or (over and settled)):
            reason = explain(state if over else "REQUEUED", outcome, self.folder, self._job)
            self._avoid(bad_node(outcome, reason, info.nodes if over else ""))
        other = bool(self.record) and self.record.fingerprint != self.fingerprint
        return Sight(
            title=self.task.title,
            done=done,
            job=self._job,
            rule=self.task.rule,
            record=str(self.task.record),
            state=state,
            silent=not self.answered and time.monotonic() - self.begin > _SILENCE,
            followed=self.followed,
            other=other,
            other_done=other and self.task.result(self.record.fingerprint) is not None,
            restart=self._restart,
            elsewhere=self._elsewhere,
            requeued=requeued,
            settled=settled,
            bad_input=outcome.message if outcome and outcome.cause == Cause.INPUT else None,
            reason=reason,
            progress=self.task.progress(),
            tally=self.tally,
            tries=self.settings.tries,
        )

    def _avoid(self, node: str) -> None:
        """Writes down that later jobs of the task are kept from a node."""
        if node and self.record.cluster == "slurm":
            self.record = self.record.excluding(node)
            self.record.write()

    @property
    def _restart(self) -> bool:
        return self.settings.changed == "restart"

    def _act(self, verdict: Verdict, info: JobInfo | None) -> None:
        """Does what was decided."""
        counted, self.tally = verdict.tally != self.tally, verdict.tally
        if verdict.action == Action.REFUSE:
            raise UserError(verdict.text)
        if verdict.action == Action.GIVE_UP:
            self._cancel()
            raise JobFailed(
                f"{verdict.text}; the same command continues it\n"
                f"last lines of {self.tail.path}:\n{last_lines(self.folder, self._job)}"
            )
        line = verdict.text or self._state(info)
        if line and (counted or line != self.said):
            say(line)
        self.said = line
        if verdict.action == Action.FOLLOW:
            self._meet(followed=True, restarts=info.restarts)
        elif verdict.action == Action.REPLACE and not self._cancel():
            raise JobFailed(f"job {self._job} still runs, so {self.task.title} does not start over")
        if verdict.action in (Action.SUBMIT, Action.REPLACE):
            self._submit()

    def _state(self, info: JobInfo | None) -> str:
        """What to say of a job whose state is worth a line and was not said yet."""
        if info is None or not self.followed or info.state in ("RUNNING", GONE):
            return ""
        line = f"job {self._job} is {info.state.lower()}"
        if info.state == "PENDING" and info.reason not in ("", "None"):
            line = pending(self._job, info.reason)
        kind = re.split("[,:]", line, maxsplit=1)[0]  # without a list of nodes
        if kind in self.told:  # reasons take turns
            return ""
        self.told.add(kind)
        return line

    def _submit(self) -> None:
        """Writes down what is about to be submitted, submits it, and writes down its id."""
        before = self.record
        self.task.prepare(self.fingerprint, before and before.fingerprint, self._restart)
        self.jobs = _jobs(self.settings.cluster)
        self.record = JobRecord(
            file=self.task.record,
            cluster=self.settings.cluster,
            name=job_name(self.task),
            fingerprint=self.fingerprint,
            submitted=time.time(),
            excluded=before.excluded if before else None,
        )
        self.record.write()
        try:
            self.record = self.jobs.submit(self.task, self.record, self.settings)
        except UserError:
            if before:  # it says whose the files in the folder are
                before.write()
            else:
                remove(self.task.record)
            raise
        self.record.write()
        self.answered = True
        kept = f", kept from {', '.join(nodes)}" if (nodes := self.record.excluded) else ""
        say(f"job {self._job} submitted for {self.task.title}{kept}")
        self._meet(followed=True)

    def _cancel(self) -> bool:
        """Cancels the job and waits until it is gone; whether it is."""
        if self.record is None or self._elsewhere:
            return True
        end, asked = time.monotonic() + _CANCEL, False
        while time.monotonic() < end:
            asked = asked or self.jobs.cancel(self.record)
            info = self.jobs.find(self.record)
            if info and info.state in FINAL:
                return True
            time.sleep(self.jobs.poll)
        job = self._job or self.record.name
        say(f"job {job} could not be cancelled yet: try `{self.jobs.remedy(self.record)}`")
        return False
