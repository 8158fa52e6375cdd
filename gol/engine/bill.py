"""Keeps, while a training or a detection goes on, the list of what its starts have taken.

The list is written anew about once a minute, so that of a start that is killed no more than that
is missing.
"""

import math
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

import torch

from gol.costs import Attempt, read_attempts, write_attempts
from gol.engine.distributed import Ranks
from gol.engine.energy import GpuMeter, gpu_meter
from gol.engine.runlog import peak_memory
from gol.errors import UserError

_EVERY = 60.0  # seconds
_JOULES = 3.6e6  # of a kWh


class Bill:
    """What one start takes, added to the list of those before; a context that ends with the work.

    Args:
        path: the list; rank 0 writes it. None: nobody will read one.
        ranks: this process among the others.
        writer: the command that works.

    Attributes:
        images_per_second: throughput of all ranks, as far as the work says it.
    """

    def __init__(self, path: Path | None, ranks: Ranks, writer: str) -> None:
        self.path, self.ranks, self.writer = path, ranks, writer
        self.before: list[Attempt] = []
        self.attempt: Attempt | None = None
        self.meter: GpuMeter | None = None
        self.images_per_second: float | None = None
        self.closed = False

    def start(self, threads: int) -> None:
        """The devices are held from now on.

        Args:
            threads: CPU threads of a rank.
        """
        device, world = self.ranks.device, self.ranks.world
        self.begin = self.written = time.monotonic()
        self.meter = gpu_meter(device)
        gpu = device.type == "cuda"
        self.attempt = Attempt(
            started=time.time(),
            seconds=0.0,
            device=torch.cuda.get_device_name(device) if gpu else device.type,
            devices=world if gpu else world * threads,
        )
        if self.path and self.ranks.is_main:
            try:
                self.before = read_attempts(self.path)
            except UserError as error:
                text = f"{error}; what earlier starts have taken is lost"
                print(text, file=sys.stderr, flush=True)

    @property
    def due(self) -> bool:
        """Whether rank 0 is to write the list again."""
        return self.ranks.is_main and time.monotonic() - self.written > _EVERY

    def add_up(self) -> None:
        """Writes what all ranks have taken so far; called by all of them."""
        joules = sum(self.ranks.each(self._joules()))
        memory = max(self.ranks.each(peak_memory() / 1e9))
        energy = None if math.isnan(joules) else joules / _JOULES
        self._write(memory_gb=memory, energy_kwh=energy)

    def close(self) -> None:
        """Adds up for the last time, where another file is to be written last; called by all."""
        self.add_up()
        self.closed = True

    def note(self) -> None:
        """Writes what rank 0 knows by itself: of several ranks' energy no more than before."""
        if self.ranks.world == 1:
            self.add_up()
        else:
            self._write()

    def _joules(self) -> float:
        """This rank's energy; NaN if unknown."""
        found = self.meter.joules() if self.meter else None
        return math.nan if found is None else found

    def _write(self, **found: float | None) -> None:
        self.written = time.monotonic()
        found |= {
            "seconds": self.written - self.begin,
            "images_per_second": self.images_per_second,
        }
        self.attempt = self.attempt.model_copy(update=found)
        if self.path and self.ranks.is_main:
            write_attempts(self.path, [*self.before, self.attempt], self.writer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if self.attempt is None or self.closed:
                return
            if kind is None:
                self.add_up()
            elif self.ranks.is_main:  # the others may be gone
                with suppress(UserError):  # a full disk has been told
                    self.note()
        finally:
            if self.meter:
                self.meter.stop()
