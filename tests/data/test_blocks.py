"""A damaged block is noticed by whoever takes a row of it, and by nobody else."""

import numpy as np
import pytest
from seeds import fresh_seed

from gol.data import blocks
from gol.errors import UserError


@pytest.mark.parametrize("seed", [fresh_seed()])
@pytest.mark.parametrize("dtype", ["u1", "?", "<i8", "(4,)<f8", "(3,)u1"])
def test_rows_of_a_damaged_block_are_refused(monkeypatch, dtype, seed):
    monkeypatch.setattr(blocks, "BLOCK", 64)
    rng = np.random.default_rng(seed)
    for length in (0, 1, 2, 64, *rng.integers(3, 500, 5)):
        content = bytearray(rng.integers(0, 2, length * np.dtype(dtype).itemsize, np.uint8))
        rows = np.frombuffer(content, dtype)
        wanted = blocks.checksums(rows)
        place = int(rng.integers(len(content))) if content else 0
        for damaged in (False, True)[: 1 + bool(content)]:
            array = blocks.CheckedArray(rows, wanted, "damaged")
            if damaged:
                content[place] ^= 1
            for start, stop in np.sort(rng.integers(0, length + 3, (20, 2))).tolist():
                begin, end = np.clip([start, stop], 0, length) * np.dtype(dtype).itemsize
                if begin == end:
                    continue
                if damaged and begin // 64 <= place // 64 <= (end - 1) // 64:
                    with pytest.raises(UserError, match="damaged"):
                        array[start:stop]
                else:
                    assert array[start:stop].tobytes() == rows[start:stop].tobytes()
        assert len(array) == length
