"""Counts where a training step would make the CPU wait for a GPU, on any device.

A GPU works behind the CPU's back until Python asks for a number of its: a scalar, a list, a shape
that depends on the data. Each such question is counted for the file that asks, the innermost of
this project, mmdet or mmcv on the stack.
"""

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

_ASKING = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_consecutive"}
_COPYING = {torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy}
_PACKAGES = ("gol", "mmdet", "mmcv")


class Waits(TorchDispatchMode):
    """``with Waits() as waits:``; ``waits.found`` has (file, operator) to the number of waits."""

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[tuple[str, str]] = Counter()
        self._copies = _Copies(self)

    def __enter__(self) -> "Waits":
        self._copies.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._copies.__exit__(*error)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in _ASKING or (name in ("index", "index_put_") and _has_mask(args[1])):
            self.count(name)
        return func(*args, **kwargs or {})

    def count(self, name: str) -> None:
        """One more of the file that is running."""
        frame = sys._getframe(1)
        while frame is not None:
            parts = Path(frame.f_code.co_filename).parts
            if "site-packages" in parts:  # of a checkout that may be called gol
                parts = parts[parts.index("site-packages") + 1 :]
            owner = next((part for part in parts[::-1] if part in _PACKAGES), None)
            if owner and "tests" not in parts:
                start = len(parts) - 1 - parts[::-1].index(owner)
                self.found["/".join(parts[start:]), name] += 1
                return
            frame = frame.f_back

    def of(self, package: str) -> dict[tuple[str, str], int]:
        """The waits of one package."""
        return {key: n for key, n in self.found.items() if key[0].startswith(f"{package}/")}


class _Copies(TorchFunctionMode):
    """Counts what, on a CPU, no operator is called for."""

    def __init__(self, waits: Waits) -> None:
        super().__init__()
        self.waits = waits

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in _COPYING:
            self.waits.count(func.__name__)
        return func(*args, **kwargs or {})


def _has_mask(indices: Any) -> bool:
    """Whether elements are chosen by a mask, whose sum is asked for."""
    return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in indices)
