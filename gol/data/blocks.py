"""Arrays of a mapped file whose blocks are compared with checksums before they are first used."""

import math
import zlib
from collections.abc import Sequence

import numpy as np

from gol.errors import UserError

BLOCK = 1 << 16  # bytes: what a disk reads ahead at once


def checksums(array: np.ndarray) -> list[int]:
    """CRC-32 of each block of a contiguous array; the last one may be shorter."""
    content = memoryview(array).cast("B") if array.size else memoryview(b"")
    return [zlib.crc32(content[start : start + BLOCK]) for start in range(0, len(content), BLOCK)]


class CheckedArray:
    """An array of n rows; what is taken of it was compared with the checksums of its blocks.

    Args:
        rows: (n, …) the mapped array.
        wanted: what :func:`checksums` gave when it was written.
        damaged: what to say where they differ.
    """

    def __init__(self, rows: np.ndarray, wanted: Sequence[int], damaged: str) -> None:
        self._rows, self._wanted, self._damaged = rows, wanted, damaged
        self._bytes = memoryview(rows).cast("B") if rows.size else memoryview(b"")
        self._checked = bytearray(len(wanted))
        self._width = rows.dtype.itemsize * math.prod(rows.shape[1:])  # bytes of a row

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """A run of rows.

        Raises:
            UserError: they are not what was written.
        """
        start, stop, _ = rows.indices(len(self._rows))
        for block in range(start * self._width // BLOCK, -(-stop * self._width // BLOCK)):
            if not self._checked[block]:
                self._check(block)
        return self._rows[rows]

    def _check(self, block: int) -> None:
        content = self._bytes[block * BLOCK : (block + 1) * BLOCK]
        if zlib.crc32(content) != self._wanted[block]:
            raise UserError(self._damaged)
        self._checked[block] = True
