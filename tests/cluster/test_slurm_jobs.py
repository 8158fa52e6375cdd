"""Slurm's jobs as squeue and sacct tell of them: which are ours, why they wait, how they end."""

from itertools import zip_longest

import pytest
from run_folders import bare_config

from gol.cluster import slurm
from gol.cluster.jobs import JobInfo, JobRecord
from gol.cluster.local import LocalJobs
from gol.cluster.reasons import pending
from gol.cluster.sbatch import judge_refusal, wishes
from gol.cluster.settings import Settings
from gol.cluster.slurm_jobs import SlurmJobs, _sharing
from gol.cluster.tasks import Training, job_name
from gol.errors import JobFailed, UserError
from gol.files import write_json


def squeue_line(*values):
    widths = slurm._FIELDS.values()
    pairs = zip_longest(values, widths, fillvalue="")
    return b"".join(text.encode().ljust(width) for text, width in pairs).decode()


def test_what_squeue_prints_is_read_by_column():
    lines = [
        squeue_line(
            "7", "RUNNING", "2", "1795913390", "gol:0123456789abcdef", "gol.ä", "Nöne", "n1"
        ),
        squeue_line("8", "PENDING", "", "1795913391", "(null)", "a|b", "held, a reason"),
        "of the last job's name",
    ]
    assert slurm._parse(lines) == [
        JobInfo("7", "RUNNING", 2, "gol.ä", "Nöne", 1795913390.0, "gol:0123456789abcdef", "n1"),
        JobInfo("8", "PENDING", 0, "a|b", "held, a reason", 1795913391.0, "(null)"),
    ]
    assert slurm._parse(None) is None


RECORD = JobRecord(
    cluster="slurm", name="gol.a.1", fingerprint="0123456789abcdef" * 4, submitted=1000.7, id="7"
)


OURS = JobInfo("7", "RUNNING", name="gol.a.1", submitted=1001.0)


@pytest.mark.parametrize(
    ("changes", "ours"),
    [
        ({}, True),
        ({"submitted": 1000.0}, True),  # in the same second
        ({"submitted": 9999.0, "restarts": 1}, True),  # a requeue counts as a submission
        ({"submitted": 500.0}, True),  # Slurm's clock is behind, and the site rewrites comments
        ({"submitted": 300.0}, False),
        ({"submitted": 900.0, "comment": "gol:0123456789abcdef"}, True),  # clocks differ
        ({"submitted": 300.0, "comment": "gol:0000000000000000"}, False),
        ({"id": "8"}, False),
        ({"name": "somebody.else"}, False),
        ({"name": "somebody.else", "comment": "gol:0123456789abcdef"}, False),
    ],
)
def test_a_job_is_ours_by_id_name_and_time(changes, ours):
    job = OURS._replace(**changes)
    assert RECORD.is_of(job) == ours
    # A record that lacks the id goes by the rest, and the time has to fit.
    late = job.submitted < 1000 and job.comment != RECORD.comment
    unknown = RECORD.model_copy(update={"id": None})
    assert unknown.is_of(job) == ((ours or "id" in changes) and not late)


def test_a_task_is_kept_from_the_last_few_nodes_that_failed(tmp_path):
    record = RECORD.model_copy(update={"file": tmp_path / "job.json"})
    for node in ("n1", "n2", "n3", "n1", "n4", "n5"):
        record = record.excluding(node)
    record.write()
    assert JobRecord.read(record.file).excluded == ("n3", "n1", "n4", "n5")


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Puts scripts in place of Slurm's programs: name to what they print, or None for an error."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(slurm, "_INTERVAL", 0.0)
    (tmp_path / "bin").mkdir()

    def install(**outputs):
        for name in ("squeue", "sacct", "scancel", "sinfo"):
            text = outputs.get(name, "")
            script = tmp_path / "bin" / name
            answer = "exit 1" if text is None else f"cat <<'END'\n{text}\nEND"
            script.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/asked\n{answer}\n')
            script.chmod(0o755)
        return tmp_path / "asked"

    return install


#: What squeue and sacct print, and the state that follows.
MINE = squeue_line("7", "COMPLETED", "0", "1001", "", "gol.a.1", "None")


FOREIGN = squeue_line("7", "RUNNING", "0", "1001", "", "other", "None")


TOO_OLD = squeue_line("7", "RUNNING", "0", "300", "", "gol.a.1", "None")


@pytest.mark.parametrize(
    ("squeue", "sacct", "state"),
    [
        (None, "7|1001|FAILED|gol.a.1", None),
        (MINE, "7|1001|RUNNING|gol.a.1", "COMPLETED"),  # slurmdbd lags behind
        ("", None, "GONE"),
        ("", "", "GONE"),
        ("", "7|1001|CANCELLED by 1000|gol.a.1", "CANCELLED"),
        ("", "7|1001|TIMEOUT|gol.a.1\n7|5|FAILED|older", "TIMEOUT"),
        ("", "7|1001|RUNNING|gol.a.1", "GONE"),  # lost with its node: it would be waited for
        ("", "7|1001|FAILED|somebody|else", "GONE"),
        ("", "7|900|FAILED|gol.a.1", "FAILED"),
        ("", "7|300|FAILED|gol.a.1", "GONE"),
        (FOREIGN, "7|1001|FAILED|gol.a.1", "GONE"),
        (TOO_OLD, "", "GONE"),
    ],
)
def test_squeue_is_believed_and_sacct_only_of_our_own_ends(programs, squeue, sacct, state):
    programs(squeue=squeue, sacct=sacct)
    found = slurm.find(RECORD)
    assert (found and found.state) == state


@pytest.mark.parametrize(
    ("gres", "runs", "part"),
    [
        ("gpu:a100:4,shard:a100:16", 2, "shard:2"),
        ("gpu:4(S:0-1),shard:16(S:0-1)", 3, "shard:2"),  # three quarters of a GPU do not exist
        ("gpu:2,shard:4\ngpu:a100:1,gpu:h100:1,shard:16", 4, "shard:2"),
        ("gpu:4,shard:8", 9, "shard:1"),
        ("gpu:4,shard:8", 1, ""),
    ],
)
def test_a_run_asks_for_the_part_of_a_gpu_that_lets_others_share_it(programs, gres, runs, part):
    programs(sinfo=gres)
    found = _sharing(Settings(cluster="slurm", runs_per_gpu=runs, gpus_per_node=1))
    assert found.gres == part and wishes(found).get("gpus_per_node") == (None if part else 1)


@pytest.mark.parametrize("answer", ["gpu:4", "(null)", None])
def test_a_cluster_without_parts_of_gpus_is_named(programs, answer):
    programs(sinfo=answer)
    with pytest.raises(UserError, match="runs_per_gpu 2: this cluster does not divide its GPUs"):
        _sharing(Settings(cluster="slurm", runs_per_gpu=2))


@pytest.mark.parametrize(
    ("state", "restarts", "over"),
    [
        ("RUNNING", "1", False),
        ("RUNNING", "2", True),
        ("PENDING", "2", True),
        ("FAILED", "1", True),
    ],
)
def test_a_local_job_of_another_node_is_gone_with_its_slurm_job(
    programs, tmp_path, state, restarts, over
):
    programs(squeue=squeue_line("5", state, restarts, "1001", "", "sbatch", "None"))
    record = RECORD.model_copy(update={"cluster": "local", "host": "elsewhere", "started": 1.0})
    inside = record.model_copy(update={"inside": "5.1"})
    if over:
        assert LocalJobs().find(inside).state == "GONE"
    for refused in (record, *([] if over else [inside])):
        with pytest.raises(UserError, match="was started on elsewhere as process 7"):
            LocalJobs().find(refused)


@pytest.mark.parametrize("line", [FOREIGN, TOO_OLD, MINE])
@pytest.mark.parametrize("identity", ["7", None])
def test_what_is_not_ours_or_over_is_never_cancelled(programs, line, identity):
    asked = programs(squeue=line)
    jobs, record = SlurmJobs(), RECORD.model_copy(update={"id": identity})
    assert jobs.find(record).state in ("COMPLETED", "GONE") and jobs.cancel(record)
    assert "scancel" not in asked.read_text()


def test_our_own_job_is_cancelled_by_name_too(programs):
    asked = programs(squeue=MINE.replace("COMPLETED", "RUNNING  "))
    assert SlurmJobs().cancel(RECORD)
    assert "scancel --name=gol.a.1 7\n" in asked.read_text()
    programs(squeue=None)
    assert not SlurmJobs().cancel(RECORD)


def test_a_user_without_a_name_asks_for_one_job_and_not_for_the_whole_cluster(
    programs, monkeypatch
):
    asked = programs(squeue=MINE)
    monkeypatch.setattr(slurm.os, "getuid", lambda: 54321)
    assert slurm.find(RECORD).state == "COMPLETED"
    assert "--name=gol.a.1" in asked.read_text() and "--user" not in asked.read_text()


@pytest.mark.parametrize("jobs", [SlurmJobs(), LocalJobs()], ids=lambda jobs: type(jobs).__name__)
def test_what_ends_a_job_by_hand_fits_its_kind(jobs):
    words = {SlurmJobs: "scancel 7", LocalJobs: "kill -INT 7"}
    assert jobs.remedy(RECORD) == words[type(jobs)]
    assert SlurmJobs().remedy(RECORD.model_copy(update={"id": None})) == "scancel --name=gol.a.1"


def test_nothing_is_left_of_a_job_that_sbatch_refuses(programs, tmp_path):
    programs()
    for name in ("sbatch", "srun"):
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho invalid partition >&2; exit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    with pytest.raises(UserError, match=r"sbatch refused .*: invalid partition"):
        SlurmJobs().submit(Training(tmp_path / "run"), RECORD, Settings(cluster="slurm"))
    assert not [*(tmp_path / "run/logs").iterdir()]


ALIVE, OVER = {"state": "RUNNING"}, {"state": "FAILED"}


class Fixed(SlurmJobs):
    """Jobs whose one job has some state, whatever is done about it."""

    poll, settle = 0.0, 3600.0

    def __init__(self, *states):
        self.states, self.cancelled = list(states), []

    def find(self, record):
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        if state is KeyboardInterrupt:
            raise state
        return OURS._replace(name=record.name, **state)

    def cancel(self, record):
        self.cancelled.append(record)
        return True

    def submit(self, task, record, settings):
        raise UserError("submitted")


@pytest.fixture
def launched(monkeypatch, tmp_path):
    """Launches a run whose record names job 7, with jobs of that kind."""
    from gol.cluster import launch

    write_json(tmp_path / "train.json", [])
    config = bare_config(tmp_path / "train.json")
    monkeypatch.setattr(launch, "_CANCEL", 0.01)
    task = Training(tmp_path / "run")

    def start(jobs, name=None, changed="refuse", **record):
        write_json(tmp_path / "run/config.json", config)
        values = {"cluster": "slurm", "name": name or job_name(task), "submitted": 1.0, "id": "7"}
        values |= {"fingerprint": task.fingerprint()}
        write_json(task.record, values | record)
        monkeypatch.setattr(launch, "_jobs", lambda cluster: jobs)
        return launch.launch(task, Settings(changed=changed))

    return start


def test_a_copied_folder_leaves_the_original_s_job_alone(launched, monkeypatch):
    jobs = Fixed(ALIVE)
    with pytest.raises(UserError, match=r"job\.json is of another folder \(job 7\): remove it"):
        launched(jobs, "gol.demo.run.01234567")
    monkeypatch.setattr(Fixed, "settle", 0.0)
    for moved in (OVER, {"state": "GONE"}):
        with pytest.raises(UserError, match=r"^submitted$"):
            launched(Fixed(moved), "gol.demo.run.01234567")
    with pytest.raises(UserError, match=r"^submitted$"):  # or it would be ended
        launched(jobs, "gol.demo.run.01234567", id=None)
    jobs = Fixed(OVER, KeyboardInterrupt)
    jobs.settle = 9.0
    with pytest.raises(KeyboardInterrupt):
        launched(jobs, "gol.demo.run.01234567")
    assert not jobs.cancelled


def test_a_job_that_cannot_be_cancelled_is_not_replaced(launched, tmp_path, capsys):
    with pytest.raises(JobFailed, match=r"job 7 still runs, so the training of .* does not start"):
        launched(Fixed(ALIVE), fingerprint="other", changed="restart")
    assert "could not be cancelled yet: try `scancel 7`" in capsys.readouterr().err


def test_an_end_that_may_not_last_is_not_looked_into(launched, monkeypatch):
    from gol.cluster import joblog

    def probe(folder):
        raise AssertionError("writes a megabyte")

    monkeypatch.setattr(joblog, "_unwritable", probe)
    with pytest.raises(KeyboardInterrupt):
        launched(Fixed(ALIVE, OVER, OVER, KeyboardInterrupt, OVER))


def test_a_reason_is_told_once_whatever_nodes_it_lists(launched, capsys):
    waiting = [
        {"state": "PENDING", "reason": reason}
        for reason in ("ReqNodeNotAvail, UnavailableNodes:n1", "Priority")
    ] + [{"state": "PENDING", "reason": "ReqNodeNotAvail, UnavailableNodes:n[1-2]"}]
    with pytest.raises(KeyboardInterrupt):
        launched(Fixed(ALIVE, *waiting, KeyboardInterrupt, OVER))
    said = capsys.readouterr().err
    assert said.count("ReqNodeNotAvail") == said.count("Priority") == 1


def test_without_squeue_there_is_one_line_with_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match="job 7 of Slurm cannot be followed: type this on its clus"):
        SlurmJobs().find(RECORD)


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "job 7 is pending (Priority)"),
        ("JobHeldUser", "`scontrol release 7`"),
        ("launch failed requeued held", "`scontrol release 7`"),
        ("JobHeldAdmin", "administrator"),
        ("BadConstraints", "constraint"),
        ("PartitionTimeLimit", "shorter runtime"),
        ("QOSMaxWallDurationPerJobLimit", "shorter runtime"),
        ("AssocGrpCPUMinutesLimit", "slurm_account"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "`sinfo -R`"),
        ("Nodes required for job are DOWN, DRAINED or reserved for jobs", "`sinfo -R`"),
        ("QOSMaxJobsPerUserLimit", "job 7 is pending (QOSMaxJobsPerUserLimit)"),
    ],
)
def test_a_job_that_may_wait_for_ever_comes_with_a_remedy(reason, words):
    line = pending("7", reason)
    assert line.startswith("job 7 is pending (") and words in line
    assert (": " in line) == (line != words)


LIMIT = "sbatch: error: Batch job submission failed: Job violates accounting/QOS policy (job submit"


@pytest.mark.parametrize(
    ("text", "code", "full", "later"),
    [
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{LIMIT} limit)", 1, True, True),
        (f"sbatch: error: AssocGrpSubmitJobsLimit\n{LIMIT} limit)", 1, True, True),
        (f"sbatch: error: AssocMaxWallDurationPerJobLimit\n{LIMIT} limit)", 1, False, False),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping", 1, True, True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping", 124, False, True),
        ("", 124, False, True),
        ("sbatch: error: Unable to contact slurm controller (connect failure)", 1, False, True),
        ("sbatch: error: invalid partition specified: x", 1, False, False),
        ("", 1, False, False),
    ],
)
def test_what_sbatch_refuses_for_now(text, code, full, later):
    reason, is_full, is_later = judge_refusal(text, code)
    assert reason and "sbatch:" not in reason and (is_full, is_later) == (full, later)
