"""Asked to stop or killed at any moment, by one rank or all: nothing is lost or done twice."""

import os
import random
import signal
import time

import pytest
from rank_processes import assert_same_training, finish, losses, prepare, start_ranks, train_ranks

from gol.engine.checkpoints import newest_checkpoint
from gol.engine.train import Interrupted, train
from gol.engine.trainer import Trainer


@pytest.fixture
def asked(monkeypatch):
    """Makes the training receive SIGUSR2 in its iteration 4."""
    step = Trainer.step

    def asking(self, iteration):
        if iteration == 4:
            os.kill(os.getpid(), signal.SIGUSR2)
        return step(self, iteration)

    monkeypatch.setattr(Trainer, "step", asking)


@pytest.mark.slow
def test_usr2_leaves_a_checkpoint_after_the_iteration(asked, alone, tmp_path, demo_data):
    run = prepare(tmp_path, demo_data, **{"gol.checkpoint_interval": 100})
    with pytest.raises(Interrupted, match="asked to stop"):
        train(run, "cpu")
    assert newest_checkpoint(run / "checkpoints")["meta"]["iter"] == 5
    assert not (run / "train.json").exists()
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    train(run, "cpu")
    assert_same_training(run, alone)
    assert losses(run) == losses(alone)


def test_the_handler_of_before_is_called_after_the_checkpoint(asked, tmp_path, demo_data):
    found = []

    def handler(number, frame):
        found.append((number, newest_checkpoint(run / "checkpoints")["meta"]["iter"]))
        raise SystemExit(3)

    run = prepare(tmp_path, demo_data)
    before = signal.signal(signal.SIGUSR2, handler)
    try:
        with pytest.raises(SystemExit):
            train(run, "cpu")
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert found == [(signal.SIGUSR2, 5)]


def test_checkpoints_come_by_minutes_too(tmp_path, tiny_data, monkeypatch):
    saved, save = [], Trainer.save
    monkeypatch.setattr(Trainer, "save", lambda self, *a: (saved.append(a[1]), save(self, *a)))
    settings = {
        "gol.checkpoint_interval": 100,
        "gol.checkpoint_minutes": 1e-9,
        "runner.max_epochs": 1,
    }
    train(prepare(tmp_path, tiny_data, **settings), "cpu")
    assert saved == [1, 2, 3]


def start(run):
    """Two ranks, once they have begun to train."""
    processes = start_ranks(2, "-m", "gol", "train", run, "--device", "cpu")
    while not (run / "metrics.jsonl").exists():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.02)
    time.sleep(random.random() * 4)
    return processes


@pytest.mark.slow
@pytest.mark.parametrize("asked_rank", [0, 1])
def test_usr2_to_one_rank_stops_all_at_the_same_iteration(asked_rank, alone, tmp_path, demo_data):
    run = prepare(tmp_path, demo_data, **{"gol.checkpoint_interval": 100})
    processes = start(run)
    processes[asked_rank].send_signal(signal.SIGUSR2)
    results = finish(processes)
    codes = {code for code, _, _ in results}
    assert codes in ({75}, {0}), results  # 0: it was done before
    assert not any("Traceback" in errors for _, _, errors in results)
    if codes == {75}:
        assert newest_checkpoint(run / "checkpoints")["meta"]["iter"] > 0
    train_ranks(2, run)
    assert_same_training(run, alone)
    assert losses(run) == losses(alone)


@pytest.mark.slow
@pytest.mark.parametrize("killed_rank", [0, 1])
def test_a_killed_rank_ends_the_other_and_the_training_goes_on(
    killed_rank, alone, tmp_path, demo_data
):
    run = prepare(tmp_path, demo_data, **{"gol.checkpoint_interval": 3})
    processes = start(run)
    processes[killed_rank].kill()
    (code, _, errors) = finish(processes)[1 - killed_rank]
    if code:  # it was not done before
        assert code == 2 and errors.count("error: a rank of the job is gone") == 1, errors
        assert "Traceback" not in errors
    train(run, "cpu")  # with another number of ranks
    assert_same_training(run, alone)
    assert losses(run) == losses(alone)


@pytest.mark.slow
def test_every_rank_calls_its_handler_and_rank_0_ends_first(tmp_path, demo_data):
    """Like submitit's: rank 0 requeues the job and ends, the others return."""
    run = prepare(tmp_path, demo_data)
    code = (
        "import os, signal, sys, time\n"
        "rank = int(os.environ['RANK'])\n"
        "def handler(*_):\n"
        "    print('handler', flush=True)\n"
        "    if rank == 0: time.sleep(2); open(sys.argv[1] + '/requeued', 'w'); sys.exit(9)\n"
        "signal.signal(signal.SIGUSR2, handler)\n"
        "from gol.engine.train import Interrupted, train\n"
        "try: train(sys.argv[1], 'cpu')\n"
        "except Interrupted: sys.exit(75 if os.path.exists(sys.argv[1] + '/requeued') else 1)\n"
    )
    processes = start_ranks(2, "-c", code, run)
    while not (run / "metrics.jsonl").exists():
        time.sleep(0.02)
    processes[1].send_signal(signal.SIGUSR2)
    results = finish(processes)
    assert [code for code, _, _ in results] == [9, 75], results
    assert all("handler" in text for _, text, _ in results)
