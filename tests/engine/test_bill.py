"""What starts took, as the lists that they leave say it."""

import json

import pytest
from rank_processes import prepare, train_ranks

from gol.costs import read_attempts, training_cost
from gol.engine.bill import Bill
from gol.engine.distributed import join
from gol.engine.train import train
from gol.errors import UserError
from gol.run_folder import RunFolder


def starts(path):
    return json.loads(path.read_text())


def test_a_start_that_fails_is_counted_beside_the_next(tmp_path):
    path = tmp_path / "cost.json"
    with pytest.raises(UserError), join("cpu") as ranks, Bill(path, ranks, "gol train") as bill:
        bill.start(threads=3)
        raise UserError("the loss is nan")
    with join("cpu") as ranks, Bill(path, ranks, "gol train") as bill:
        bill.start(threads=2)
    failed, done = read_attempts(path)
    assert (failed.device, failed.devices, done.devices) == ("cpu", 3, 2)
    assert failed.started < done.started and failed.seconds > 0 < done.memory_gb
    assert failed.energy_kwh is None  # nothing measures a CPU's


def test_work_that_never_began_takes_nothing(tmp_path):
    with join("cpu") as ranks, Bill(tmp_path / "cost.json", ranks, "gol train"):
        pass
    assert not [*tmp_path.iterdir()]


def test_a_damaged_list_does_not_hold_up_the_work(tmp_path, capsys):
    path = tmp_path / "cost.json"
    path.write_text('[{"started": 1')
    with join("cpu") as ranks, Bill(path, ranks, "gol train") as bill:
        bill.start(threads=1)
    assert len(read_attempts(path)) == 1
    assert f"{path} is not valid JSON" in capsys.readouterr().err


def test_two_ranks_are_two_devices_and_a_finished_run_takes_nothing_more(tmp_path, tiny_data):
    run = prepare(tmp_path / "run", tiny_data, **{"runner.max_iters": 2, "gol.global_batch": 4})
    train_ranks(2, run)
    cost = RunFolder(run).cost
    (found,) = starts(cost)
    summary = RunFolder(run).read_summary()
    assert found["devices"] == 2 and found["seconds"] >= summary.seconds
    hours = training_cost(RunFolder(run)).hours_of("CPU")
    assert hours == pytest.approx(2 * found["seconds"] / 3600)
    train(run, "cpu")
    assert starts(cost) == [found]
