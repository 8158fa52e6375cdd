"""What starts took, as the lists that they leave say it."""

import pytest

from gol.costs import read_attempts
from gol.engine.bill import Bill
from gol.engine.distributed import join
from gol.errors import UserError


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


def test_a_closed_list_stays_as_it_is(tmp_path):
    path = tmp_path / "cost.json"
    with join("cpu") as ranks, Bill(path, ranks, "gol train") as bill:
        bill.start(threads=1)
        bill.close()
        before = path.read_bytes()
    assert path.read_bytes() == before


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
