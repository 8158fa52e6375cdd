"""Operators, activations and losses on the device against the CPU and float64."""

import argparse
import copy
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch

import gol.models  # noqa: F401  (installs the operators)
from gol.activations import ACTIVATIONS
from gol.engine.health import check_device, ecc_errors
from gol.errors import NodeError
from gol.losses import LOSSES

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
import bench_nms

CLASSES = 1203


def health(args: argparse.Namespace) -> dict[str, Any]:
    """A GPU that works passes the check of every job's start in less than two seconds."""
    torch.zeros(1, device=args.device)  # the job makes CUDA's context anyhow
    begin = time.perf_counter()
    try:
        check_device(torch.device(args.device))
    except NodeError as error:
        return {"lines": [str(error)], "failed": [str(error)]}
    seconds = time.perf_counter() - begin
    failed = [] if seconds < 2 or args.device == "cpu" else [f"it takes {seconds:.1f} s"]
    lines = [f"{args.device} passes in {seconds:.2f} s"]
    if args.device != "cpu":
        errors = ecc_errors(f"GPU-{torch.cuda.get_device_properties(args.device).uuid}")
        lines.append(f"uncorrectable ECC errors: {'unknown' if errors is None else errors}")
    return {"lines": lines, "failed": failed}


def operators(args: argparse.Namespace) -> dict[str, Any]:
    """NMS must keep the same boxes; RoIAlign agrees in value and gradient to float32."""
    from mmcv.ops import RoIAlign, nms

    generator = torch.Generator().manual_seed(torch.seed() % 2**31)
    corners = 500 * torch.rand(2000, 2, generator=generator)
    boxes = torch.cat([corners, corners + 100 * torch.rand(2000, 2, generator=generator)], 1)
    scores = torch.rand(2000, generator=generator)
    kept = [nms(boxes.to(place), scores.to(place), 0.5)[1].cpu() for place in ("cpu", args.device)]
    failed = [] if torch.equal(*kept) else ["nms keeps other boxes than on the CPU"]
    worst = 0.0
    for bins in (7, 14):
        features = torch.randn(2, 64, 50, 80, generator=generator)
        rois = torch.cat([torch.randint(2, (512, 1), generator=generator), 0.5 * boxes[:512]], 1)
        weight = torch.randn(512, 64, bins, bins, generator=generator)
        for ratio in (0, 2):
            found = [
                _value_and_gradient(RoIAlign(bins, 0.25, ratio), features, rois, weight, place)
                for place in ("cpu", args.device)
            ]
            worst = max(worst, *(_distance(a, b) for a, b in zip(*found, strict=True)))
    if worst > 1e-4:
        failed.append(f"RoIAlign differs by {worst:.1e} from the CPU")
    lines = [f"NMS: {len(kept[0])} of 2000 boxes kept on both", f"RoIAlign: within {worst:.1e}"]
    return {"lines": lines, "failed": failed}


def _value_and_gradient(operator: Any, features: Any, rois: Any, weight: Any, place: str) -> tuple:
    features = features.to(place).requires_grad_()
    value = operator(features, rois.to(place))
    (value * weight.to(place)).sum().backward()
    return value.detach().cpu(), features.grad.cpu()


def _distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Largest difference relative to the largest value."""
    scale = wanted.double().abs().max().clamp(min=1e-30)
    return float((found.double() - wanted.double()).abs().max() / scale)


def detections(args: argparse.Namespace) -> dict[str, Any]:
    """An image's detections must be mmdet's on the device; how often each way waits for it."""
    lines, failed = [], []
    options = argparse.Namespace(seed=0, detections=300)
    for agnostic in (False, True):
        case = (100, 50, 2.0, agnostic) if args.quick else (1000, CLASSES, 8.0, agnostic)
        with torch.inference_mode():
            pair, candidates = bench_nms.functions(case, options, args.device)
            found = [call() for call in pair]
            waits = [_waits(call, args.device) for call in pair]
        name = f"{case[0]:,} x {case[1]:,}, one box a {'proposal' if agnostic else 'class'}"
        if not bench_nms.same(*found):
            failed.append(f"detections of {name} are not mmdet's")
        lines.append(
            f"- {name}: {len(found[1][0])} of {candidates:,} candidates; mmdet waits for the "
            f"device {waits[0]} times, gol {waits[1]}"
        )
    return {"lines": ["\n".join(lines)], "failed": failed}


def _waits(call: Any, device: str) -> int:
    """How often PyTorch waits for the GPU, uploads of constants included; 0 on a CPU."""
    if torch.device(device).type != "cuda":
        return 0
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def losses(args: argparse.Namespace) -> dict[str, Any]:
    """Logits arrive in half precision as under autocast; values must be those of float64."""
    lines, failed = [], []
    for dtype in (torch.bfloat16, torch.float16):
        for kind, names in (("activation", ACTIVATIONS), ("loss", LOSSES)):
            for name in names:
                worst = (_activation if kind == "activation" else _loss)(name, dtype, args.device)
                lines.append(f"{kind} {name} in {str(dtype)[6:]}: within {worst:.1e}")
                if not worst < 1e-4:
                    failed.append(lines[-1])
    return {"lines": ["\n".join(f"- {line}" for line in lines)], "failed": failed}


def _activation(name: str, dtype: torch.dtype, device: str) -> float:
    logits = (6 * torch.randn(64, CLASSES)).to(dtype)
    wanted = ACTIVATIONS[name].probability(logits.double())
    with torch.autocast(torch.device(device).type, dtype):
        found = ACTIVATIONS[name].probability(logits.to(device))
    # What autocast hands on may be rounded to half; what it computes may not be worse than that.
    rounded = wanted.to(found.dtype)
    return _distance(found.cpu(), rounded if found.dtype == dtype else wanted)


def _loss(name: str, dtype: torch.dtype, device: str) -> float:
    loss = LOSSES[name](num_classes=CLASSES, **_ARGUMENTS.get(name, {}))
    width = loss.get_cls_channels(CLASSES)
    half = (3 * torch.randn(256, width)).to(dtype)
    labels = torch.randint(CLASSES + 1, (256,))
    values = []
    for place, logits in ((device, half.to(device)), ("cpu", half.float())):
        logits = logits.detach().requires_grad_()
        used = copy.deepcopy(loss).to(place)  # which counts, so that a second call would differ
        torch.manual_seed(1)
        with torch.autocast(torch.device(place).type, dtype, enabled=place == device):
            value = used(logits, labels.to(place))
        value.backward()
        # DropLoss draws on the device, so that only its expectation can agree with the CPU's.
        state = [tensor.cpu() for tensor in used.state_dict().values()]
        values.append((value.detach().cpu(), logits.grad.float().cpu(), state))
    if name == "DropLoss" and device != "cpu":
        finite = torch.isfinite(values[0][0]) and torch.isfinite(values[0][1]).all()
        return 0.0 if finite else float("nan")
    exact = _distance(values[0][0], values[1][0])
    gradient = _distance(values[0][1], values[1][1].to(dtype).float())
    kept = [_distance(*pair) for pair in zip(values[0][2], values[1][2], strict=True)]
    return max(exact, gradient, *kept)


#: Federated draws no class by chance here: a device's draws are its own.
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "EQL": {"version": "v1"},
    "DropLoss": {"version": "v1"},
    "Federated": {"sampled_classes": CLASSES + 1},
}
