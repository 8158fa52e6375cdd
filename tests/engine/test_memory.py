"""Freed memory stays with the process, where glibc's allocator can be told so."""

import platform

import pytest
from processes import Process

CODE = """
import resource, sys, torch
from gol.engine.memory import keep_freed_memory

if sys.argv[1] == "keep":
    keep_freed_memory()
faults = 0
for turn in range(9):
    begin = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    parts = [torch.zeros(1 << 20) for _ in range(8)]  # 4 MB each, as a step's activations are
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - begin
    del parts
print(faults)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_memory_that_was_freed_is_not_fetched_from_the_kernel_again():
    _, out, errors = Process("-c", CODE, "keep").finish()
    assert int(out) < 100, errors  # of 8192 pages
