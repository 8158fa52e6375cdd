"""What a launcher does next, as a function of what it sees."""

from dataclasses import dataclass
from enum import Enum

from gol.cluster.jobs import FINAL, GONE
from gol.run_folder import restart_option

#: Ends that are nobody's fault: not counted where a new checkpoint was reached.
_BENIGN = {"PREEMPTED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", GONE}


@dataclass(frozen=True)
class Tally:
    """Failures since the last one that came after progress.

    Attributes:
        failures: how many.
        progress: how far the task was at the last end that was counted.
    """

    failures: int = 0
    progress: str = ""


@dataclass(frozen=True)
class Sight:
    """What a launcher sees at one moment.

    Attributes:
        title: the task, for people.
        done: whether its result is there.
        job: id of the job of the task; empty where it has none, or none that is known.
        rule: the workflow's rule that does it.
        record: the file that names the job.
        state: the job's; None where Slurm does not answer, GONE where there is no job.
        silent: whether Slurm has never answered this launcher, for as long as it may take.
        followed: whether this launcher has submitted the job, or has seen it alive before.
        other: whether the job is another configuration's.
        other_done: whether that configuration's result is there: the job only tidies up.
        restart: whether another configuration may be stopped.
        elsewhere: whether the record came with a copy of another folder, whose job it is.
        requeued: whether the job has begun anew since the last moment.
        settled: whether the end has lasted long enough to be believed.
        bad_input: what the job said of its input, if that ended it.
        reason: why the job has ended, for people.
        progress: how far the task is.
        tally: what was counted before.
        tries: failures without progress until it is given up.
    """

    title: str
    done: bool = False
    job: str = ""
    rule: str = "train"
    record: str = ""
    state: str | None = GONE
    silent: bool = False
    followed: bool = False
    other: bool = False
    other_done: bool = False
    restart: bool = False
    elsewhere: bool = False
    requeued: bool = False
    settled: bool = True
    bad_input: str | None = None
    reason: str = ""
    progress: str = ""
    tally: Tally = Tally()
    tries: int = 1


class Action(Enum):
    """What to do."""

    DONE = "return the result"
    WAIT = "look again"
    FOLLOW = "take over a job that another launcher has submitted"
    SUBMIT = "submit a job"
    REPLACE = "cancel the job and submit another"
    REFUSE = "end: the input or the configuration is wrong"
    GIVE_UP = "end: the job failed"


@dataclass(frozen=True)
class Verdict:
    """What to do.

    Attributes:
        action: the deed.
        text: what to say beside it, or why it ends.
        tally: what is counted from now on.
    """

    action: Action
    text: str
    tally: Tally


def judge(sight: Sight) -> Verdict:
    """What to do after what was seen; depends on nothing else."""
    action, text = Action.WAIT, ""
    over = sight.state in FINAL
    if sight.done:
        action = Action.DONE
    elif sight.state is None and sight.silent:
        action = Action.REFUSE
        text = (
            f"Slurm does not answer about {sight.title}: type this where it does, or remove "
            f"{sight.record} if its job is gone"
        )
    elif sight.state is None:
        text = f"Slurm does not answer about {sight.title}; waiting"
    elif sight.followed and (sight.requeued or over):
        return _judge_end(sight, over)
    elif over:
        # An earlier launcher's job: it says nothing about what comes now.
        action = Action.SUBMIT if sight.settled else Action.WAIT
    elif not sight.followed and sight.job:
        action, text = _meet(sight)
    return Verdict(action, text, sight.tally)


def _meet(sight: Sight) -> tuple[Action, str]:
    """What to do with a job that runs already."""
    if sight.elsewhere:
        return Action.REFUSE, (
            f"{sight.record} is of another folder (job {sight.job}): remove it, unless that job "
            "writes to this folder"
        )
    if not sight.other:
        return Action.FOLLOW, f"following job {sight.job} of {sight.title}"
    if sight.restart or sight.other_done:
        return Action.REPLACE, ""
    return Action.REFUSE, (
        f"job {sight.job} does {sight.title} with another configuration: wait for it, cancel it, "
        f"or use {restart_option(sight.rule)}"
    )


def _judge_end(sight: Sight, over: bool) -> Verdict:
    """What to do when an attempt has ended: the job's last, or one after which it was requeued."""
    if over and sight.bad_input:
        return Verdict(Action.REFUSE, sight.bad_input, sight.tally)
    if over and not sight.settled:
        return Verdict(Action.WAIT, "", sight.tally)
    if sight.state == "CANCELLED":
        return Verdict(Action.GIVE_UP, f"{sight.title} was {sight.reason}", sight.tally)
    advanced = sight.progress != sight.tally.progress
    blamed = not advanced or (over and sight.state not in _BENIGN)
    failures = (0 if advanced else sight.tally.failures) + blamed
    tally = Tally(failures, sight.progress)
    if failures >= sight.tries:
        times = f"failed {failures} times" if failures > 1 else "failed"
        text = f"{sight.title} {times}, without progress; at last: {sight.reason}"
        return Verdict(Action.GIVE_UP, text, tally)
    count = f" (failure {failures} of {sight.tries})" if failures else ""
    text = f"job {sight.job} ended: {sight.reason}{count}; it goes on"
    return Verdict(Action.SUBMIT if over else Action.WAIT, text, tally)
