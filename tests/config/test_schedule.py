"""Learning rates against mmcv's own runner, iteration by iteration."""

import logging

import pytest
import torch

import gol.models  # noqa: F401
from gol.config.axes import axis_values
from gol.config.schedule import Schedule

EPOCH, EPOCHS = 40, 24


def parameters():
    return [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]


def optimizer():
    first, second = parameters()
    return torch.optim.SGD([{"params": [first]}, {"params": [second], "lr": 0.005}], lr=0.02)


def mmcv_rates(lr_config, tmp_path):
    """Runs mmcv's EpochBasedRunner over an empty model and notes every rate."""
    from mmcv.runner import EpochBasedRunner

    class Model(torch.nn.Module):
        def train_step(self, batch, optimizer, **kwargs):
            rates.append([group["lr"] for group in optimizer.param_groups])
            return {"num_samples": 1}

    rates = []
    logger = logging.getLogger("silent")
    logger.addHandler(logging.NullHandler())
    logger.propagate = False
    runner = EpochBasedRunner(
        Model(),
        optimizer=optimizer(),
        work_dir=str(tmp_path),
        logger=logger,
        max_epochs=EPOCHS,
    )
    runner.register_lr_hook(dict(lr_config))
    runner.run([list(range(EPOCH))], [("train", 1)])
    return rates


@pytest.mark.parametrize("name", ["1x", "2x", "demo"])
def test_rates_equal_mmcvs_runner(name, tmp_path, monkeypatch):
    # The runner sleeps two seconds before each epoch.
    monkeypatch.setattr("mmcv.runner.epoch_based_runner.time.sleep", lambda seconds: None)
    lr_config = dict(axis_values("schedule")[name]["lr_config"])
    expected = mmcv_rates(lr_config, tmp_path)
    own = optimizer()
    schedule = Schedule(lr_config, own, EPOCH, EPOCHS)
    found = []
    for iteration in range(EPOCH * EPOCHS):
        schedule.set(iteration)
        found.append([group["lr"] for group in own.param_groups])
    assert found == expected
    assert len({rate for rate, _ in found}) > 3


@pytest.mark.parametrize("start", [0, 7, 39, 40, 333, 500, 501, 900])
def test_a_resumed_schedule_continues_with_the_same_rates(start):
    lr_config = axis_values("schedule")["2x"]["lr_config"]
    whole = Schedule(lr_config, optimizer(), EPOCH, EPOCHS)
    expected = [whole.set(iteration) for iteration in range(EPOCH * EPOCHS)]
    resumed = Schedule(lr_config, optimizer(), EPOCH, EPOCHS)
    assert [resumed.set(i) for i in range(start, EPOCH * EPOCHS)] == expected[start:]
