"""Several ranks: the same training and the same detections, and one reason when one fails."""

import itertools
import json
import socket
import threading
import time
from contextlib import suppress
from datetime import timedelta

import pytest
import torch
from rank_processes import (
    assert_same_training,
    finish,
    free_port,
    losses,
    prepare,
    run_ranks,
    start_ranks,
    train_ranks,
)

import gol
from gol.costs import read_attempts
from gol.engine.detect import detect
from gol.engine.distributed import (
    Address,
    after_copying,
    find_address,
    find_device,
    join,
    loading_workers,
)
from gol.engine.train import train
from gol.errors import UserError
from gol.run_folder import RunFolder

VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SUBMITIT_EXECUTOR")


@pytest.fixture
def env(monkeypatch):
    """Sets variables in an environment without any of a job's."""
    import os

    for name in [*VARIABLES, *(n for n in os.environ if n.startswith("SLURM_"))]:
        monkeypatch.delenv(name, raising=False)
    return lambda **values: [monkeypatch.setenv(name, str(value)) for name, value in values.items()]


SLURM = {
    "SLURM_JOB_ID": 24001,
    "SLURM_NTASKS": 4,
    "SLURM_PROCID": 3,
    "SLURM_LOCALID": 1,
    "SLURM_JOB_NUM_NODES": 2,
    "SLURM_JOB_NODELIST": "node[007-008,011]",
}


def test_without_variables_there_is_one_process(env):
    assert find_address() == Address()
    with join("cpu") as ranks:
        assert (ranks.rank, ranks.world, ranks.is_main) == (0, 1, True)
        assert ranks.sum([1.5]) == [1.5] and ranks.any(True, False) == [True, False]
        assert not torch.distributed.is_initialized()


def test_torchruns_variables_come_first(env):
    env(RANK=2, WORLD_SIZE=4, LOCAL_RANK=0, **SLURM)
    assert find_address() == Address(2, 4, 0, "env://")


def test_a_batch_script_is_one_process_and_its_steps_tasks_are_ranks(env, monkeypatch):
    env(**SLURM)
    assert find_address() == Address()
    env(SLURM_STEP_NUM_TASKS=4)
    monkeypatch.setattr("socket.getaddrinfo", lambda host, port: [host, port])
    assert find_address() == Address(3, 4, 1, "tcp://node007:20001")
    env(MASTER_PORT=1234)
    assert find_address().url == "tcp://node007:1234"


def test_a_node_name_that_means_nothing_is_this_machine(env, monkeypatch):
    env(SLURM_STEP_NUM_TASKS=4, **SLURM)

    def unknown(*_):
        raise OSError("Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", unknown)
    assert find_address().url == "tcp://127.0.0.1:20001"


def test_submitits_local_jobs_are_found(env):
    env(
        SUBMITIT_EXECUTOR="local",
        SUBMITIT_LOCAL_JOB_ID=12005,
        SUBMITIT_LOCAL_NTASKS=2,
        SUBMITIT_LOCAL_GLOBALID=1,
        SUBMITIT_LOCAL_LOCALID=1,
        SUBMITIT_LOCAL_JOB_NUM_NODES=1,
        SLURM_STEP_NUM_TASKS=8,  # of an enclosing job
    )
    assert find_address() == Address(1, 2, 1, "tcp://127.0.0.1:20005")


@pytest.mark.parametrize(
    ("cores", "world", "variables", "workers"),
    [
        (2, 1, {}, 1),
        (1, 1, {}, 0),
        (12, 4, {}, 2),  # submitit's on this machine
        (12, 4, {"SLURM_CPUS_PER_TASK": 6}, 5),  # each rank is a task
        (12, 4, {"SLURM_CPUS_PER_TASK": 12, "LOCAL_WORLD_SIZE": 4}, 2),  # torchrun in one task
        (12, 8, {"LOCAL_WORLD_SIZE": 4}, 2),  # two nodes
        (128, 1, {}, 16),
    ],
)
def test_auto_takes_the_cores_that_a_rank_has(
    env, monkeypatch, tiny_data, cores, world, variables, workers
):
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: set(range(cores)))
    env(**variables)
    config = gol.load_experiment("demo/gumbel", {"gol.workers": "auto"}, tiny_data)
    assert loading_workers(config, world) == workers
    config.gol.workers, config.data.workers_per_gpu = None, 3
    assert loading_workers(config, world) == 3


def test_the_gpu_is_chosen_among_those_that_are_visible(monkeypatch):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    assert [find_device(None, rank).index for rank in range(4)] == [0, 1, 0, 1]
    assert find_device("cuda", 1) == torch.device("cuda:1")
    assert find_device("cuda:0", 1) == torch.device("cuda:0")
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)  # Slurm binds one to each task
    assert find_device(None, 3) == torch.device("cuda:0")


@pytest.fixture(scope="module")
def pair(made_once, demo_data):
    """The training by two ranks, and what each said."""

    def fill(folder):
        said = train_ranks(2, prepare(folder / "run", demo_data))
        (folder / "said.json").write_text(json.dumps(said))

    folder = made_once("pair", fill)
    return folder / "run", json.loads((folder / "said.json").read_text())


@pytest.mark.slow
def test_two_ranks_train_as_one_process_does(alone, pair):
    run, _ = pair
    assert losses(run) == losses(alone)
    assert_same_training(run, alone)
    assert json.loads((run / "train.json").read_text())["ranks"] == 2


@pytest.mark.slow
def test_rank_0_alone_writes_and_says_how_the_batch_is_made(pair):
    run, (first, second) = pair
    assert "learning rate 0.04 = 0.04 x 8/8 images; ranks 2, micro-batches of 2" in first
    assert "iteration 16/16" in first
    assert "learning rate" not in second and "iteration" not in second
    assert {path.name for path in run.iterdir()} <= {
        *("config.json", ".config.json.sha256"),
        *("train.json", ".train.json.sha256", ".train.lock"),
        *("cost.json", ".cost.json.sha256"),
        *("metrics.jsonl", "checkpoints", "model.pth"),
    }
    (took,) = read_attempts(RunFolder(run).cost)
    assert took.devices == 2 and took.energy_kwh is None


LOG_ALL = (
    "import sys, gol.engine.runlog; gol.engine.runlog._LINE_EVERY = 1\n"
    "from gol.engine.train import train; train(sys.argv[1], 'cpu')\n"
)


@pytest.mark.slow
def test_1_2_and_4_ranks_give_the_same_losses_for_50_iterations(tmp_path, demo_data):
    found, settings = {}, {"runner.max_epochs": 4, "classifier": "eqlv2"}  # which counts, too
    settings |= {"gol.global_batch": 4, "data.samples_per_gpu": 1}  # what four ranks can share
    for world in (1, 2, 4):
        run = prepare(tmp_path / str(world), demo_data, "demo/gumbel", **settings)
        run_ranks(world, "-c", LOG_ALL, run)
        found[world] = losses(run)[:50]
        assert [line["iteration"] for line in found[world]] == list(range(1, 51))
        assert_same_training(run, tmp_path / "1")
    for world in (2, 4):
        for line, expected in zip(found[world], found[1], strict=True):
            assert line == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_ranks_that_cannot_share_a_batch_are_refused_in_one_line(tmp_path, demo_data):
    run = prepare(tmp_path, demo_data)
    results = finish(start_ranks(3, "-m", "gol", "train", run, "--device", "cpu"))
    assert [code for code, _, _ in results] == [2, 2, 2]
    said = [line for _, _, errors in results for line in errors.splitlines() if "error" in line]
    assert len(said) == 1 and "3 ranks cannot share 8 images" in said[0]
    assert said[0].endswith("allowed: 1, 2, 4, 8")


@pytest.mark.slow
def test_a_loss_that_is_not_finite_ends_all_ranks_with_one_message(tmp_path, demo_data):
    run = prepare(tmp_path, demo_data, "demo/softmax", **{"optimizer.lr": 2e9})
    results = finish(start_ranks(2, "-m", "gol", "train", run, "--device", "cpu"))
    assert [code for code, _, _ in results] == [2, 2]
    said = "".join(errors for _, _, errors in results)
    assert said.count("error: the loss is") == 1 and "Traceback" not in said


@pytest.mark.slow
def test_one_ranks_failure_ends_the_other_soon_and_is_said_once(tmp_path, tiny_data):
    runs = [prepare(tmp_path / str(rank), tiny_data) for rank in (0, 1)]
    code = (
        "import os, sys; from gol.cli import main; from gol.errors import UserError\n"
        "from gol.engine.trainer import Trainer; step = Trainer.step\n"
        "def failing(self, iteration):\n"
        "    if iteration == 2 and os.environ['RANK'] == '{rank}': raise UserError('no luck')\n"
        "    return step(self, iteration)\n"
        "Trainer.step = failing\n"
        "sys.exit(main(['train', sys.argv[1], '--device', 'cpu']))\n"
    )
    jobs = [start_ranks(2, "-c", code.format(rank=rank), runs[rank]) for rank in (0, 1)]
    ends, everyone = {}, [*jobs[0], *jobs[1]]
    while len(ends) < len(everyone):
        now = time.monotonic()
        ends |= {p: now for p in everyone if p not in ends and p.poll() is not None}
        time.sleep(0.05)
    for processes in jobs:
        assert abs(ends[processes[0]] - ends[processes[1]]) < 20
        results = finish(processes)
        assert [code for code, _, _ in results] == [2, 2]
        said = "".join(errors for _, _, errors in results)
        assert said.count("error: no luck") == 1 and "Traceback" not in said, said


@pytest.mark.slow
@pytest.mark.parametrize("per_class, worlds", [(None, (2, 3)), (30, (2,))])
def test_detections_of_several_ranks_are_those_of_one(
    per_class, worlds, alone, tmp_path, monkeypatch
):
    monkeypatch.setattr("gol.engine.shares._BATCH", 5)
    count = detect(alone, tmp_path / "one.json", device="cpu", per_class=per_class)
    for world in worlds:
        code = (
            "import sys, gol.engine.shares; gol.engine.shares._BATCH = 5\n"
            f"print(gol.engine.detect.detect(*sys.argv[1:], device='cpu', per_class={per_class}))\n"
        )
        results = finish(start_ranks(world, "-c", code, alone, tmp_path / "many.json"))
        assert [code for code, _, _ in results] == [0] * world, results
        assert [text.split()[-1] for _, text, _ in results] == [str(count)] * world
        assert (tmp_path / "many.json").read_bytes() == (tmp_path / "one.json").read_bytes()
    seals = [".many.json.sha256", ".one.json.sha256"]
    left = sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock")
    assert left == [*seals, "many.json", "one.json"]


@pytest.mark.slow
def test_a_damaged_image_on_one_rank_is_named_once_and_leaves_no_files(alone, tmp_path):
    import shutil

    config = json.loads((alone / "config.json").read_text())
    images = tmp_path / "images"
    shutil.copytree(config["data"]["test"]["img_prefix"], images)
    config["data"]["test"]["img_prefix"] = str(images)
    config["data"]["workers_per_gpu"] = 1
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.json").write_text(json.dumps(config))
    broken = sorted(images.iterdir())[20]
    broken.write_bytes(broken.read_bytes()[:100])
    out = tmp_path / "out" / "d.json"
    command = ["-m", "gol", "detect", tmp_path / "run", "--out", out, "--device", "cpu"]
    processes = start_ranks(2, *command, "--checkpoint", alone / "model.pth")
    results = finish(processes)
    assert [code for code, _, _ in results] == [2, 2], results
    said = "".join(errors for _, _, errors in results)
    assert said.count(f"error: image {broken} is missing or damaged") == 1, said
    assert "Traceback" not in said
    assert [path.name for path in out.parent.iterdir()] == [".d.json.lock"]


def test_ranks_that_do_not_come_are_named(env, monkeypatch, tmp_path, demo_data, capfd):
    monkeypatch.setattr("gol.engine.distributed._MEETING", timedelta(seconds=1))
    env(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    with pytest.raises(UserError, match="rank 1 of 2 found no others"):
        train(prepare(tmp_path, demo_data), "cpu")
    assert "[c10d]" in capfd.readouterr().err  # torch alone says which address did not answer


def test_who_has_copied_images_waits_for_those_that_still_do(env, monkeypatch):
    monkeypatch.setattr("gol.engine.distributed._MEETING", timedelta(seconds=1))
    monkeypatch.setattr("gol.engine.distributed._COPYING", timedelta(seconds=4))
    env(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    begin = time.monotonic()
    words = "rank 1 of 2 found no others"
    with after_copying(), pytest.raises(UserError, match=words), join("cpu"):
        pass
    assert time.monotonic() - begin > 3


def test_a_rank_whose_device_fails_tells_the_others(env, monkeypatch):
    store = torch.distributed.HashStore()
    monkeypatch.setattr("gol.engine.distributed._meet", lambda address: store)
    monkeypatch.setattr("gol.engine.distributed._joins", itertools.count())
    monkeypatch.setattr("gol.engine.failures._FAREWELL", 0)
    env(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1)
    with pytest.raises(UserError, match="no device 'tpu'"), join("tpu"):
        pass
    assert store.check(["gol0/failed"]) and "no device 'tpu'" in store.get("gol0/failed").decode()


@pytest.mark.parametrize("error", [ValueError(""), RuntimeError("\n")])
def test_torch_may_fail_without_a_word(env, monkeypatch, error):
    monkeypatch.setattr("torch.distributed.rendezvous", lambda *_, **__: iter(_raising(error)))
    env(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=free_port())
    words = f"found no others at env://: {type(error).__name__}$"
    with pytest.raises(UserError, match=words), join("cpu"):
        pass


def _raising(error):
    yield from ()
    raise error


@pytest.mark.parametrize("temporary", [None, "/nowhere"])
def test_a_port_that_another_program_has_is_one_line(env, monkeypatch, capfd, temporary):
    """Torch itself writes a C++ stack for each attempt, which is kept where there is room."""
    monkeypatch.setattr("gol.engine.distributed._MEETING", timedelta(seconds=1))
    with socket.create_server(("127.0.0.1", 0)) as server:
        taken = server.getsockname()[1]
        threading.Thread(target=_answer, args=(server,), daemon=True).start()
        env(RANK=1, WORLD_SIZE=2, LOCAL_RANK=1, MASTER_ADDR="127.0.0.1", MASTER_PORT=taken)
        words = "rank 1 of 2 found no others at env://: .*MASTER_PORT chooses one"
        with monkeypatch.context() as patch:
            patch.setattr("tempfile.tempdir", temporary)
            with pytest.raises(UserError, match=words) as caught, join("cpu"):
                pass
    assert "\n" not in str(caught.value) and capfd.readouterr().err == ""


def _answer(server):
    """Says something that no rendezvous says."""
    with suppress(OSError):
        while True:
            with server.accept()[0] as client, suppress(OSError):
                client.recv(10)
                client.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
