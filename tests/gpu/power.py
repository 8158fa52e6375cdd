"""The energy that a burst of matrix products takes, as NVML counts it."""

import argparse
import time
from typing import Any

import torch

from gol.engine.energy import gpu_meter

_WATTS = 20, 2000  # of one GPU at work


def energy(args: argparse.Namespace) -> dict[str, Any]:
    """Work must take more energy than none, at a power that a GPU can have."""
    device = torch.device(args.device)
    meter = gpu_meter(device)
    if meter is None:
        failed = ["NVML does not measure this GPU"] if device.type == "cuda" else []
        return {"lines": ["not measured"], "failed": failed}
    matrix = torch.randn(4096, 4096, device=device)
    idle = _power(meter, 1, lambda: time.sleep(0.05))
    watts = _power(meter, 1 if args.quick else 4, lambda: (matrix @ matrix).sum().item())
    failed = [] if _WATTS[0] < watts < _WATTS[1] else [f"matrix products take {watts:.0f} W"]
    failed += [] if watts > idle else [f"matrix products take {watts:.0f} W, idling {idle:.0f} W"]
    return {"lines": [f"idle {idle:.0f} W, matrix products {watts:.0f} W"], "failed": failed}


def _power(meter: Any, seconds: float, work: Any) -> float:
    """Mean watts while ``work`` is done again and again."""
    before, begin = meter.joules(), time.monotonic()
    while time.monotonic() - begin < seconds:
        work()
    return (meter.joules() - before) / (time.monotonic() - begin)
