"""Settings, records and the reading of logs: what needs no job."""

import subprocess
import sys

import pytest

from gol.cluster import slurm
from gol.cluster.joblog import Tail, explain, last_lines
from gol.cluster.jobs import JobInfo, JobRecord
from gol.cluster.outcome import Cause, Outcome
from gol.cluster.settings import Settings
from gol.cluster.tasks import Detection, Training, job_name
from gol.config.resolve import fingerprint
from gol.errors import UserError
from gol.files import write_json


def test_a_launcher_imports_neither_torch_nor_mmdet(tmp_path):
    (tmp_path / "train.json").write_text("[]")
    config = {"gol": {}, "data": {"train": {"ann_file": str(tmp_path / "train.json")}}}
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
    ],
)
def test_a_wrong_setting_is_named(values, message):
    with pytest.raises(UserError, match=message):
        Settings(**values)


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
    assert max(map(len, names)) < slurm._FIELDS["Name"]


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


def test_what_squeue_prints_is_read_by_column():
    values = [("7", "RUNNING", "2", "gol.a", "None"), ("8", "PENDING", "", "b", "held, a reason")]
    widths = slurm._FIELDS.values()
    lines = [
        "".join(text.ljust(width) for text, width in zip(row, widths, strict=True))
        for row in values
    ]
    assert slurm._parse(lines) == [
        JobInfo("7", "RUNNING", 2, "gol.a", "None"),
        JobInfo("8", "PENDING", 0, "b", "held, a reason"),
    ]
    assert slurm._parse(None) is None


def test_no_answer_is_no_state(monkeypatch, tmp_path):
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert slurm.jobs() is None and slurm.job("7") is None and slurm.alive_under("x") is None
    squeue.unlink()
    with pytest.raises(UserError, match="squeue is not installed here"):
        slurm.jobs(fresh=True)


def test_the_enclosing_job_is_hidden_and_the_cluster_is_not(monkeypatch):
    import os

    monkeypatch.setenv("SLURM_CONF", "/etc/some.conf")
    monkeypatch.setenv("SBATCH_ACCOUNT", "mine")
    monkeypatch.setenv("SLURM_NTASKS", "4")
    with slurm.clean_environment():
        assert os.environ["SLURM_CONF"] == "/etc/some.conf"
        assert os.environ["SBATCH_ACCOUNT"] == "mine" and "SLURM_NTASKS" not in os.environ
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    with slurm.clean_environment():
        assert "SBATCH_ACCOUNT" not in os.environ and "SLURM_JOB_ID" not in os.environ
    assert os.environ["SLURM_JOB_ID"] == "3"
