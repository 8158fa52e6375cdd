"""A machine whose GPU does not work is told from bad input and from a failure of our own."""

import pytest
import torch

from gol.engine.distributed import join
from gol.engine.health import BROKEN, check_device, check_granted, ecc_errors
from gol.errors import NodeError

without_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")


def test_a_device_that_works_passes_and_no_random_number_is_drawn():
    before = torch.get_rng_state()
    check_device(torch.device("cpu"))
    assert torch.equal(torch.get_rng_state(), before)


@without_cuda
def test_a_device_that_is_not_there_is_named_with_its_machine(monkeypatch):
    monkeypatch.setenv("SLURMD_NODENAME", "n7")
    with pytest.raises(NodeError, match=r"^n7: cuda:0 fails its health check: \S.*$"):
        check_device(torch.device("cuda:0"))


@without_cuda
@pytest.mark.parametrize("device", [None, "cuda"])
def test_a_granted_gpu_that_cuda_does_not_find_is_no_reason_to_train_on_the_cpu(
    monkeypatch, device
):
    monkeypatch.setenv("SLURM_JOB_GPUS", "3")
    with pytest.raises(NodeError, match="granted GPU 3, but CUDA finds none"), join(device):
        pass
    with join("cpu"):
        pass
    monkeypatch.setenv("SLURM_JOB_GPUS", "")
    check_granted()


@pytest.mark.parametrize(
    ("script", "errors"),
    [
        ("echo 0", 0),
        ("echo 12", 12),
        ("echo '[N/A]'", None),
        ("echo 'Unable to determine the device handle'; exit 9", None),
        (None, None),
    ],
)
def test_memory_errors_are_read_where_somebody_knows_them(monkeypatch, tmp_path, script, errors):
    monkeypatch.setenv("PATH", str(tmp_path))
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    assert ecc_errors("GPU-0123") == errors


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("CUDA error: uncorrectable ECC error encountered", True),
        ("CUDA error: all CUDA-capable devices are busy or unavailable", True),
        ("CUDA error: CUDA-capable device(s) is/are busy or unavailable", True),
        ("CUDA error: no CUDA-capable device is detected", True),
        ("CUDA error: an illegal memory access was encountered", False),  # a program's mistake
        ("CUDA out of memory. Tried to allocate 2.00 GiB", False),
        ("[Errno 11] Resource temporarily unavailable", False),
    ],
)
def test_what_cuda_says_of_broken_hardware_is_known(text, broken):
    assert bool(BROKEN.search(text)) == broken
