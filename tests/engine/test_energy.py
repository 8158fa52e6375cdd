"""The energy of a GPU from what NVML says; what is replaced is the hardware alone."""

import time

import pytest
import torch

from gol.engine.energy import GpuMeter, gpu_meter


class Card:
    """As pynvml speaks of one GPU, whose counter and power the test sets."""

    class NVMLError(Exception):
        pass

    def __init__(self, counter=None, watts=None):
        self.counter, self.watts = counter, watts

    def nvmlDeviceGetHandleByUUID(self, uuid):
        assert uuid == "GPU-1"
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):
        return self._say(self.counter)

    def nvmlDeviceGetPowerUsage(self, handle):
        return self._say(self.watts and 1000 * self.watts)

    def _say(self, value):
        if value is None:
            raise self.NVMLError
        return value


def test_a_card_that_counts_is_read_twice():
    card = Card(counter=7_000_000)  # millijoules since the driver was loaded
    meter = GpuMeter(card, "GPU-1")
    card.counter += 1_500_000
    assert meter.joules() == 1500
    card.counter = 10  # the driver was loaded anew
    assert meter.joules() is None
    card.counter = None
    assert meter.joules() is None


def test_another_card_is_asked_for_its_power_meanwhile():
    """The mean of two samples counts for the time between, however irregular that is."""
    card = Card(watts=100)
    begin = time.monotonic()
    meter = GpuMeter(card, "GPU-1", every=0.01)
    time.sleep(0.3)
    card.watts = 300
    time.sleep(0.2)
    found = meter.joules()
    end = time.monotonic()
    assert found == pytest.approx(100 * 0.3 + 300 * 0.2, rel=0.3)
    assert 100 * (end - begin) < found < 300 * (end - begin)
    assert meter.thread.is_alive()
    meter.stop()
    meter.thread.join(5)
    assert not meter.thread.is_alive()
    card.watts = None
    assert meter.joules() is None


def test_where_nothing_is_measured_there_is_no_meter():
    with pytest.raises(Card.NVMLError):
        GpuMeter(Card(), "GPU-1")
    assert gpu_meter(torch.device("cpu")) is None
