"""The energy that a GPU takes, as NVIDIA's management library (NVML) measures it.

Cards from Volta on count their energy themselves, so that two readings are enough. For others, and
for virtual GPUs, a thread asks for the power every second.
"""

import threading
import time
from typing import Any

import torch

_EVERY = 1.0  # seconds between two samples of the power


class GpuMeter:
    """Measures the energy of one GPU from now on.

    Args:
        nvml: the module ``pynvml``, initialised.
        uuid: of the GPU, as NVML writes it.
        every: seconds between two samples, where the GPU has no counter.

    Raises:
        nvml.NVMLError: NVML does not know the GPU, or measures neither energy nor power.
    """

    def __init__(self, nvml: Any, uuid: str, every: float = _EVERY) -> None:
        self.nvml, self.every = nvml, every
        self.handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
        self._begin: float | None = None
        self._stopped = threading.Event()
        try:
            self._begin = self._counter()
        except nvml.NVMLError:
            self._lock, self._sum = threading.Lock(), 0.0
            self._last = time.monotonic(), self._watts()
            self.thread = threading.Thread(target=self._follow, daemon=True)
            self.thread.start()

    def joules(self) -> float | None:
        """Energy since the beginning; None where NVML has stopped to answer."""
        try:
            if self._begin is None:
                return self._sampled()
            taken = self._counter() - self._begin
            return taken if taken >= 0 else None  # the driver was loaded anew
        except self.nvml.NVMLError:
            return None

    def stop(self) -> None:
        """Ends the sampling."""
        self._stopped.set()

    def _counter(self) -> float:
        return self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) / 1e3  # mJ

    def _watts(self) -> float:
        return self.nvml.nvmlDeviceGetPowerUsage(self.handle) / 1e3  # mW

    def _sampled(self) -> float:
        """Adds what the mean of the last power and the present one makes of the time between."""
        with self._lock:
            (before, power), self._last = self._last, (time.monotonic(), self._watts())
            self._sum += (power + self._last[1]) / 2 * (self._last[0] - before)
            return self._sum

    def _follow(self) -> None:
        while not self._stopped.wait(self.every) and self.joules() is not None:
            pass


def gpu_meter(device: torch.device) -> GpuMeter | None:
    """A meter of the GPU, beginning now; None for a CPU, and where NVML is not there or not able.

    Of two processes on one GPU each measures all that the GPU takes.
    """
    if device.type != "cuda":
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        return GpuMeter(pynvml, f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    except pynvml.NVMLError:  # no driver, AMD, a part of a GPU (MIG)
        return None
