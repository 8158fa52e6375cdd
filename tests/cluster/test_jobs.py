"""Settings, records and the reading of logs: what needs no job."""

import resource
import subprocess
import sys

import pytest
from run_folders import bare_config

from gol.cluster import slurm
from gol.cluster.joblog import Tail, bad_node, explain, last_lines
from gol.cluster.jobs import JobRecord
from gol.cluster.outcome import Cause, Outcome
from gol.cluster.settings import Settings, setting_names
from gol.cluster.tasks import Detection, Training, is_name_of, job_name
from gol.config.resolve import fingerprint
from gol.errors import UserError
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
        ("FAILED", "what():  CUDA error: uncorrectable ECC error encountered", "the GPU or its"),
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
    ("state", "text", "nodes", "bad"),
    [
        ("NODE_FAIL", "", "n7", "n7"),
        ("NODE_FAIL", "", "n[7-8]", ""),  # one of them
        ("FAILED", "what():  CUDA error: uncorrectable ECC error encountered", "n7", "n7"),
        ("FAILED", "MemoryError", "n7", ""),
        ("TIMEOUT", "", "n7", ""),
    ],
)
def test_the_node_is_blamed_for_what_is_its_fault(tmp_path, state, text, nodes, bad):
    log(tmp_path, text)
    assert bad_node(None, explain(state, None, tmp_path, "7"), nodes) == bad


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
        path.write_text(path.read_text().replace('"7"', '"8"'))  # as a bad disk would
        with pytest.raises(UserError, match=r"job\.json is damaged, or was edited"):
            JobRecord.read(path)
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


def test_a_folder_is_the_same_by_whatever_path(tmp_path, monkeypatch):
    (tmp_path / "link").symlink_to(tmp_path)
    run = Training(tmp_path / "demo/run")
    (tmp_path / "demo").mkdir()
    monkeypatch.chdir(tmp_path / "demo")
    for path in (tmp_path / "link/demo/run", "run"):
        assert is_name_of(run, job_name(Training(path)))
    assert not is_name_of(run, job_name(Training(tmp_path / "demo/run2")))


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
    for stated in ("account", "acc"):  # as sbatch takes it too
        with slurm.clean_environment([stated]):
            assert "SBATCH_ACCOUNT" not in os.environ
    monkeypatch.setenv("SLURM_JOB_ID", "3")
    with slurm.clean_environment():
        assert "SBATCH_ACCOUNT" not in os.environ and "SLURM_JOB_ID" not in os.environ
    assert os.environ["SLURM_JOB_ID"] == "3"
