"""Settings, records and the reading of logs: what needs no job."""

import resource
import subprocess
import sys

import pytest
from run_folders import bare_config

from gol.cluster import slurm
from gol.cluster.joblog import Tail, explain, last_lines
from gol.cluster.jobs import JobInfo, JobRecord
from gol.cluster.local import LocalJobs
from gol.cluster.outcome import Cause, Outcome
from gol.cluster.reasons import pending
from gol.cluster.sbatch import judge_refusal
from gol.cluster.settings import Settings, setting_names
from gol.cluster.slurm_jobs import SlurmJobs
from gol.cluster.tasks import Detection, Training, is_name_of, job_name
from gol.config.resolve import fingerprint
from gol.errors import JobFailed, UserError
from gol.files import write_json


def test_a_launcher_imports_neither_torch_nor_mmdet(tmp_path):
    (tmp_path / "train.json").write_text("[]")
    config = bare_config(tmp_path / "train.json")
    write_json(tmp_path / "run/config.json", config)
    summary = {"iterations": 9, "seconds": 1, "images_per_second": 7, "device": "cpu"}
    summary |= {"parameters": 5, "started": 1.0, "finished": 2.0}
    write_json(tmp_path / "prepared.json", {**summary, "fingerprint": fingerprint(config)})
    job = tmp_path / "job"
    job.write_text(f"#!/bin/sh\nmv {tmp_path}/prepared.json $(dirname $4)/train.json\n")
    job.chmod(0o755)
    (tmp_path / "run/model.pth").touch()
    code = (
        "import sys; from gol.cli import main; "
        f"code = main(['launch', {str(tmp_path / 'run')!r}, '--python', {str(job)!r}]); "
        "print(code, {'torch', 'mmcv', 'mmdet', 'snakemake'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "9 iterations in 1 s, 7.0 img/s on cpu\n0 set()\n", done.stderr


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"cluster": "pbs"}, "unknown cluster 'pbs'; allowed: local, slurm"),
        ({"changed": "mix"}, "unknown changed 'mix'; allowed: refuse, restart"),
        ({"tries": 0}, "key 'tries' must be at least 1"),
        ({"nodes": 2}, "nodes must be 1 with cluster 'local'"),
        ({"mem_mb": -1}, "key 'mem_mb' must be at least 0, not -1"),
        ({"slurm_extra": "-p gpu"}, "slurm_extra: expected --option=value, not '-p'"),
        ({"slurm_extra": "--comment='"}, "No closing quotation"),
        ({"partition": "gpu"}, "unknown key 'partition'"),
        ({"slurm_extra": "--job-name=x"}, "slurm_extra: --job-name is set by gol"),
        ({"slurm_extra": "--sig USR1@9"}, "slurm_extra: --sig is set by gol"),
        ({"slurm_partition": "a\nrm -r x"}, r"slurm_partition must be one line of text, not 'a.n"),
        ({"slurm_extra": "--comment"}, "slurm_extra: expected --comment=value, not --comment"),
        ({"slurm_extra": "--dependency --exclusive"}, "expected --dependency=value"),
        ({"slurm_extra": "--dep=afterok:3"}, "expected --dependency=value, not --dep"),
        ({"python": "a\nb"}, "python must be one line"),
        ({"srun_extra": "'"}, "No closing quotation"),
        ({"cluster": "slurm", "runtime": 2}, r"signal_delay \(120 seconds\) must be shorter than"),
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(UserError, match=message):
        Settings(**values)


def test_settings_have_snakemake_s_names_or_are_refused():
    given = {"gpu": "gpus_per_node", "qos": "qos", "mem_mb_per_cpu": "mem_mb_per_cpu"}
    given |= {name: name for name in ("gres", "here", "mem", "mine")}
    assert setting_names(given, "train", ["_cores", "mine"]) == given
    with pytest.raises(UserError, match="'slurm_partion' in train; did you mean 'slurm_partition'"):
        setting_names(["slurm_partion"], "train")
    assert Settings(setup="module load a\nmodule load b").setup.count("\n") == 1


def test_options_of_sbatch():
    settings = Settings(slurm_extra="--qos=high --exclusive --comment 'two words' --gres=gpu:a:2")
    assert settings.sbatch_options == {
        "qos": "high",
        "exclusive": True,
        "comment": "two words",
        "gres": "gpu:a:2",
    }


def test_names_differ_for_runs_of_one_title(tmp_path):
    runs = [tmp_path / pipeline / "demo/gumbel/seed0" for pipeline in ("a", "b")]
    names = {job_name(Training(run)) for run in runs}
    names |= {job_name(Detection(run, run / f"{k}.json")) for run in runs for k in ("x", "y")}
    assert len(names) == 6 and all(name.startswith("gol.gumbel.seed0.") for name in names)
    longest = job_name(Training(tmp_path / ("𝒩" * 60) / "run"))
    assert len(longest.encode()) < slurm._FIELDS["Name"]


def log(folder, text, rank=0):
    """A log of two attempts, the first of which says something else."""
    begin = "submitit INFO (2026-01-01) - Starting with JobEnvironment(job_id=7)\n"
    text = f"{begin}of an earlier attempt\nMemoryError\n{begin}submitit INFO\n{text}"
    (folder / f"7_{rank}_log.out").write_text(text)


@pytest.mark.parametrize(
    ("state", "text", "reason"),
    [
        ("OUT_OF_MEMORY", "", "out of memory"),
        ("TIMEOUT", "", "time-out"),
        ("NODE_FAIL", "", "node failure"),
        ("CANCELLED", "", "cancelled from outside"),
        ("FAILED", "slurmstepd: error: Detected 1 oom_kill event in StepId=7.0", "out of memory"),
        ("FAILED", "OSError: [Errno 28] No space left on device", "the disk is full"),
        ("FAILED", "OSError: [Errno 122] Disk quota exceeded", "over quota"),
        ("FAILED", "File size limit exceeded (core dumped)", "a file is larger"),
        ("FAILED", "Python's own\nMemoryError", "out of memory"),
        ("GONE", "iteration 3/9", "killed without a word"),
        ("FAILED", "iteration 3/9", "failed"),
    ],
)
def test_the_reason_of_an_end_that_the_job_could_not_give(tmp_path, state, text, reason):
    log(tmp_path, "iteration 1/9\n")
    log(tmp_path, text, rank=1)
    assert explain(state, None, tmp_path, "7").startswith(reason)
    assert last_lines(tmp_path, "7") == "  iteration 1/9"


def test_a_job_whose_log_could_not_be_written_has_not_died_without_a_word(tmp_path):
    log(tmp_path, "")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        reason = explain("GONE", None, tmp_path, "7")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert reason == f"nothing can be written to {tmp_path}: File too large"


@pytest.mark.parametrize(
    ("state", "cause", "reason"),
    [
        ("FAILED", Cause.EXCEPTION, "exception KeyError: 'x'"),
        ("FAILED", Cause.GPU_MEMORY, "out of GPU memory"),
        ("GONE", Cause.MEMORY, "out of memory"),
        ("FAILED", Cause.LOST, "KeyError: 'x'"),
        ("CANCELLED", Cause.EXCEPTION, "cancelled from outside"),
    ],
)
def test_what_the_job_said_of_its_end_comes_before_its_log(tmp_path, state, cause, reason):
    log(tmp_path, "slurmstepd: error: Detected 1 oom_kill event\n")
    outcome = Outcome(cause=cause, message="KeyError: 'x'")
    assert explain(state, outcome, tmp_path, "7") == reason


OLD = {"cluster": "slurm", "name": "gol.a.seed0.1", "mark": "abc", "submitted": 1.5, "id": "7"}


def test_records_of_0_2_0_are_read_and_ours_come_back(tmp_path):
    path = tmp_path / "job.json"
    assert JobRecord.read(path) is None
    for old in (OLD, {**OLD, "cluster": "local", "started": None, "host": "n1"}):
        write_json(path, old)
        record = JobRecord.read(path)
        assert (record.fingerprint, record.id, record.host) == ("abc", "7", old.get("host"))
        record.write()
        assert JobRecord.read(path) == record
    write_json(path, {key: value for key, value in OLD.items() if key != "id"})
    assert JobRecord.read(path).id is None
    write_json(path, {**OLD, "cluster": "pbs"})
    with pytest.raises(UserError, match=r"job\.json: unknown cluster 'pbs'; allowed: local, slurm"):
        JobRecord.read(path)


def test_a_log_is_shown_once_and_in_whole_lines(tmp_path, capsys):
    path = tmp_path / "7_0_log.out"
    tail = Tail(path)
    tail.show()
    path.write_bytes("submitit INFO\nfirst é\nsec".encode())
    tail.show()
    with path.open("a") as file:
        file.write("ond\n")
    tail.show()
    tail.show()
    assert capsys.readouterr().err == "first é\nsecond\n"


def squeue_line(*values):
    widths = slurm._FIELDS.values()
    pairs = zip(values, widths, strict=True)
    return b"".join(text.encode().ljust(width) for text, width in pairs).decode()


def test_what_squeue_prints_is_read_by_column():
    lines = [
        squeue_line("7", "RUNNING", "2", "1795913390", "gol:0123456789abcdef", "gol.ä", "Nöne"),
        squeue_line("8", "PENDING", "", "1795913391", "(null)", "a|b", "held, a reason"),
        "of the last job's name",
    ]
    assert slurm._parse(lines) == [
        JobInfo("7", "RUNNING", 2, "gol.ä", "Nöne", 1795913390.0, "gol:0123456789abcdef"),
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


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Puts scripts in place of Slurm's programs: name to what they print, or None for an error."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(slurm, "_INTERVAL", 0.0)
    (tmp_path / "bin").mkdir()

    def install(**outputs):
        for name in ("squeue", "sacct", "scancel"):
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


ALIVE, OVER = {"state": "RUNNING"}, {"state": "FAILED"}


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


def test_a_folder_is_the_same_by_whatever_path(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    run = Training(tmp_path / "demo/run")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path / "demo")
    for path in (tmp_path / "link/demo/run", "run"):
        assert is_name_of(run, job_name(Training(path)))
    assert not is_name_of(run, job_name(Training(tmp_path / "demo/run2")))


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


def test_the_enclosing_job_is_hidden_and_the_cluster_is_not(monkeypatch):
    import os

    monkeypatch.setenv("SLURM_CONF", "/etc/some.conf")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    for name in ("JOB_NAME", "TIMELIMIT", "ARRAY_INX", "COMMENT", "NO_REQUEUE", "DEPENDENCY"):
        monkeypatch.setenv(f"SBATCH_{name}", "1")
    with slurm.clean_environment():
        assert os.environ["SLURM_CONF"] == "/etc/some.conf"
        assert [name for name in os.environ if name[:7] == "SBATCH_"] == ["SBATCH_ACCOUNT"]
        assert os.environ["SBATCH_ACCOUNT"] == "mine" and "SLURM_NTASKS" not in os.environ
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    with slurm.clean_environment():
        assert "SBATCH_ACCOUNT" not in os.environ and "SLURM_JOB_ID" not in os.environ
    assert os.environ["SLURM_JOB_ID"] == "3"
