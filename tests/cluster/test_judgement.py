"""What a launcher does next: every combination of what it may see, without a process."""

from dataclasses import replace
from itertools import product

import pytest

from gol.cluster.jobs import FINAL, GONE
from gol.cluster.judgement import Action, Sight, Tally, judge

ALIVE = ("PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED")
#: Ends that count only where no new checkpoint was reached.
NOBODY_S_FAULT = ("PREEMPTED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "DEADLINE", GONE)
OWN_FAULT = ("FAILED", "OUT_OF_MEMORY", "COMPLETED", "REVOKED")

START = Sight("the training of a", tries=3)
RUNNING = replace(START, job="7", state="RUNNING", followed=True, settled=False)
ENDED = replace(RUNNING, state="FAILED", settled=True, reason="out of memory")
FOREIGN = replace(RUNNING, followed=False, other=True)
W, S, R = Action.WAIT, Action.SUBMIT, Action.REFUSE


@pytest.mark.parametrize(
    ("sight", "action", "text"),
    [
        # Before this launcher has a job.
        (START, S, ""),
        (replace(START, done=True), Action.DONE, ""),
        (replace(START, state=None), W, "Slurm does not answer about the training of a; waiting"),
        (
            replace(START, state=None, silent=True, record="a/job.json"),
            R,
            "Slurm does not answer about the training of a: type this where it does, or remove "
            "a/job.json if its job is gone",
        ),
        (
            replace(RUNNING, followed=False),
            Action.FOLLOW,
            "following job 7 of the training of a",
        ),
        # Submitted but not written down: it is being ended, and another comes when it is gone.
        (replace(START, state="COMPLETING"), W, ""),
        # A job that ended before says nothing about what comes now.
        (replace(ENDED, followed=False), S, ""),
        (replace(ENDED, followed=False, bad_input="no images"), S, ""),
        (replace(ENDED, followed=False, state="CANCELLED"), S, ""),
        (replace(ENDED, followed=False, settled=False), W, ""),
        (replace(ENDED, followed=False, other=True), S, ""),
        # A job of another configuration.
        (
            FOREIGN,
            R,
            "job 7 does the training of a with another configuration: wait for it, cancel it, or "
            "use --changed restart (with snakemake: --set-resources train:changed=restart)",
        ),
        (replace(FOREIGN, restart=True), Action.REPLACE, ""),
        (replace(FOREIGN, other_done=True), Action.REPLACE, ""),
        (replace(FOREIGN, state=None), W, "Slurm does not answer about the training of a; waiting"),
        # A copied folder.
        (
            replace(FOREIGN, elsewhere=True, restart=True, record="b/job.json"),
            R,
            "b/job.json is of another folder (job 7): remove it, unless that job writes to this "
            "folder",
        ),
        # The job runs, or has ended and may be requeued yet.
        (RUNNING, W, ""),
        (replace(RUNNING, state=None), W, "Slurm does not answer about the training of a; waiting"),
        (replace(ENDED, settled=False), W, ""),
        (replace(ENDED, done=True, bad_input="no images"), Action.DONE, ""),
        # The job has ended for good.
        (ENDED, S, "job 7 ended: out of memory (failure 1 of 3); it goes on"),
        (replace(ENDED, bad_input="no images"), R, "no images"),
        (replace(ENDED, bad_input="no images", settled=False), R, "no images"),
        (
            replace(ENDED, state="CANCELLED", reason="cancelled from outside"),
            Action.GIVE_UP,
            "the training of a was cancelled from outside",
        ),
        (replace(ENDED, state="CANCELLED", bad_input="no images"), R, "no images"),
        (
            replace(ENDED, tally=Tally(2)),
            Action.GIVE_UP,
            "the training of a failed 3 times, without progress; at last: out of memory",
        ),
        (
            replace(ENDED, tries=1),
            Action.GIVE_UP,
            "the training of a failed, without progress; at last: out of memory",
        ),
    ],
)
def test_what_is_done(sight, action, text):
    verdict = judge(sight)
    assert (verdict.action, verdict.text) == (action, text)


@pytest.mark.parametrize("state", [*OWN_FAULT, *NOBODY_S_FAULT, "requeued"])
@pytest.mark.parametrize("advanced", [False, True])
@pytest.mark.parametrize("before", [0, 1, 2])
def test_failures_are_counted_until_there_is_progress(state, advanced, before):
    sight = replace(ENDED, state=state, tally=Tally(before, "a"), progress="b" if advanced else "a")
    if state == "requeued":
        sight = replace(sight, state="PENDING", requeued=True, settled=False)
    verdict = judge(sight)
    blamed = state in OWN_FAULT or not advanced
    failures = (0 if advanced else before) + blamed
    assert verdict.tally == Tally(failures, sight.progress)
    goes_on = W if state == "requeued" else S
    assert verdict.action == (Action.GIVE_UP if failures == 3 else goes_on)
    assert ("failure" in verdict.text) == (0 < failures < 3)


def every_sight():
    flags = product([False, True], repeat=8)
    states = [None, *ALIVE, *FINAL]
    for (done, followed, other, restart, elsewhere, requeued, settled, silent), state in product(
        flags, states
    ):
        if silent and state is not None:
            continue
        if (other and followed) or (requeued and not followed):
            continue  # what a launcher follows is of its own configuration
        if elsewhere and (followed or requeued or silent):
            continue
        for bad_input, failures, progress, job in product([None, "bad"], [0, 2], "ab", ["", "7"]):
            yield Sight(
                "x", done, job, "train", "job.json", state, silent, followed, other, restart,
                restart, elsewhere, requeued, settled, bad_input, "reason", progress,
                Tally(failures, "a"), 3,
            )  # fmt: skip


def test_in_every_situation():
    seen = set()
    for sight in every_sight():
        verdict = judge(sight)
        seen.add(verdict.action)
        assert (verdict.action == Action.DONE) == sight.done, sight
        if sight.done:
            continue
        over = sight.state in FINAL
        # Never two jobs at once.
        if verdict.action == Action.SUBMIT:
            assert over and sight.settled, sight
        # Nothing is decided for want of an answer.
        if sight.state is None:
            assert verdict.action == (Action.REFUSE if sight.silent else Action.WAIT), sight
        # A job of another folder is neither followed nor stopped.
        if sight.elsewhere and not over:
            assert verdict.action in (Action.WAIT, Action.REFUSE), sight
        # A job of another configuration is neither followed nor stopped unasked.
        if sight.other and not over:
            assert verdict.action != Action.FOLLOW, sight
            assert sight.restart or verdict.action in (Action.WAIT, Action.REFUSE), sight
        # Only an end that this launcher saw is anybody's failure.
        if not sight.followed:
            assert verdict.tally == sight.tally and verdict.action != Action.GIVE_UP, sight
        if verdict.tally != sight.tally:
            assert over or sight.requeued, sight
        assert verdict.tally.failures <= sight.tries
        if verdict.tally.failures == sight.tries:
            assert verdict.action == Action.GIVE_UP, sight
        if verdict.action in (Action.GIVE_UP, Action.REFUSE, Action.FOLLOW):
            assert verdict.text, sight
    assert seen == set(Action)


def test_every_final_state_is_somebody_s_fault_or_nobody_s():
    assert {*OWN_FAULT, *NOBODY_S_FAULT, "CANCELLED"} == FINAL
