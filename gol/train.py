"""One process's training loop: plain torch around an mmdet detector and mmdet's data pipeline.

Everything random is drawn from (seed, iteration), and a checkpoint holds the weights, the
optimizer and the iteration. A run killed at any moment therefore continues from its newest
checkpoint to the same weights, bit for bit (on the CPU, with the same number of threads).
"""

import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from gol import __version__
from gol.checkpoints import (
    checkpoint_path,
    newest_checkpoint,
    prune,
    save_checkpoint,
)
from gol.config import fingerprint, load_config
from gol.errors import UserError, choices
from gol.files import read_json, write_json
from gol.runlog import RunLog

PRECISIONS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
DONE = "train.json"
_ADVICE = "lower the learning rate or clip gradients (optimizer_config.grad_clip)"


def train(run: str | Path, device: str | None = None) -> dict[str, Any]:
    """Trains the experiment of a run folder, or continues it, or does nothing if it is done.

    Reads ``config.json``; writes ``metrics.jsonl``, ``checkpoints/``, ``model.pth`` (weights in
    mmcv's layout) and, last of all, ``train.json``.

    Args:
        run: the run folder, prepared by ``gol config``.
        device: ``cpu``, ``cuda`` …; by default CUDA where there is a GPU.

    Returns:
        The content of ``train.json``: iterations, seconds, images per second, versions.

    Raises:
        UserError: no config, another configuration's checkpoints, no images, a loss that is not
            finite, a full disk.
    """
    from filelock import FileLock, Timeout

    run = Path(run)
    config = load_config(run)
    place = find_device(device)
    try:
        with FileLock(run / ".train.lock", timeout=0):
            return _train(run, config, place)
    except Timeout as error:
        raise UserError(f"{run} is being trained by another process") from error
    except OSError as error:
        raise UserError(f"cannot write {error.filename or run}: {error.strerror}") from error


def find_device(name: str | None) -> torch.device:
    """The named device, or the first GPU if there is one, else the CPU.

    Raises:
        UserError: there is no such device.
    """
    gpus = torch.cuda.device_count()
    try:
        device = torch.device(name or ("cuda" if gpus else "cpu"))
    except RuntimeError:
        device = None
    if device and (device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < gpus)):
        return device
    allowed = choices(["cpu", *(f"cuda:{index}" for index in range(gpus))])
    raise UserError(f"no device '{name}'; allowed: {allowed}")


def _train(run: Path, config: Any, device: torch.device) -> dict[str, Any]:
    mark = fingerprint(config)
    done = _finished(run, mark)
    if done:
        return done
    torch.set_num_threads(config.gol.threads)
    job = _Job(config, device)
    total = config.runner.max_epochs * len(job.loader)
    start, seconds, started = job.resume(run / "checkpoints", mark)
    log = RunLog(run / "metrics.jsonl", start, total, len(job.loader), _name(config))
    begin = time.monotonic()

    def spent() -> float:
        return seconds + time.monotonic() - begin

    for iteration in range(start, total):
        values, images = job.step(iteration)
        log.add(iteration + 1, images, values)
        if (iteration + 1) % config.gol.checkpoint_interval == 0 or iteration + 1 == total:
            job.save(run / "checkpoints", iteration + 1, mark, spent(), started)
    meta = {"CLASSES": list(job.classes), "fingerprint": mark, "gol": __version__}
    save_checkpoint(run / "model.pth", state_dict=job.detector.state_dict(), meta=meta)
    summary = {
        "fingerprint": mark,
        "iterations": total,
        "seconds": spent(),
        "images_per_second": total * len(job.loader.dataset) / len(job.loader) / spent(),
        "parameters": sum(p.numel() for p in job.detector.parameters()),
        "device": str(device),
        "started": started,
        "finished": time.time(),
        "versions": _versions(),
    }
    write_json(run / DONE, summary, indent=1)
    return summary


def _finished(run: Path, mark: str) -> dict[str, Any] | None:
    if not ((run / DONE).exists() and (run / "model.pth").exists()):
        return None
    summary = read_json(run / DONE)
    _check_fingerprint(run, summary.get("fingerprint"), mark)
    return summary


def _check_fingerprint(run: Path, found: str | None, wanted: str) -> None:
    if found != wanted:
        raise UserError(
            f"{run} holds a training of another configuration or other annotations: "
            "remove that folder to train anew, or give the pipeline another name"
        )


def _name(config: Any) -> str:
    return f"{config.gol.experiment} seed {config.gol.seed}"


def _versions() -> dict[str, str]:
    import mmcv
    import mmdet

    return {
        "gol": __version__,
        "torch": torch.__version__,
        "mmdet": mmdet.__version__,
        "mmcv": mmcv.__version__,
    }


class _Job:
    """Detector, optimizer, schedule and data of one training."""

    def __init__(self, config: Any, device: torch.device) -> None:
        from mmcv.runner import build_optimizer

        from gol.data.loader import EpochLoader
        from gol.models import build_dataset, build_detector, float32_heads
        from gol.schedule import Schedule

        if config.gol.precision not in PRECISIONS:
            raise UserError(
                f"unknown precision '{config.gol.precision}'; allowed: {choices(PRECISIONS)}"
            )
        dataset = build_dataset(config.data.train)
        if not len(dataset):
            raise UserError(f"no image with annotations to train on in {config.data.train}")
        self.classes = dataset.CLASSES
        self.device, self.seed = device, config.seed
        self.detector = build_detector(config).to(device).train()
        self.dtype = PRECISIONS[config.gol.precision]
        if self.dtype:
            float32_heads(self.detector)
        batch = config.data.samples_per_gpu
        optimizer = {**config.optimizer, "lr": config.optimizer.lr * batch / config.gol.base_batch}
        if batch != config.gol.base_batch:
            print(f"learning rate {optimizer['lr']:g} for batch {batch}", file=sys.stderr)
        self.optimizer = build_optimizer(self.detector, optimizer)
        self.loader = EpochLoader(dataset, batch, config.seed, config.data.workers_per_gpu)
        self.schedule = Schedule(
            config.lr_config, self.optimizer, len(self.loader), config.runner.max_epochs
        )
        self.scaler = torch.amp.GradScaler(
            device.type, enabled=self.dtype == torch.float16 and device.type == "cuda"
        )
        self.max_norm = (config.optimizer_config.grad_clip or {}).get("max_norm")
        self.batches: Any = None

    def resume(self, folder: Path, mark: str) -> tuple[int, float, float]:
        """Loads the newest checkpoint; returns iterations done, seconds spent, time of start."""
        content = newest_checkpoint(folder)
        if content is None:
            return 0, 0.0, time.time()
        meta = content["meta"]
        _check_fingerprint(folder.parent, meta["fingerprint"], mark)
        self.detector.load_state_dict(content["state_dict"])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scaler.load_state_dict(content["scaler"])
        return meta["iter"], meta["seconds"], meta["started"]

    def save(self, folder: Path, done: int, mark: str, seconds: float, started: float) -> None:
        """Writes a checkpoint after ``done`` iterations."""
        meta = {
            "iter": done,
            "epoch": done // len(self.loader),
            "seconds": seconds,
            "started": started,
            "fingerprint": mark,
            "CLASSES": list(self.classes),
        }
        save_checkpoint(
            checkpoint_path(folder, done),
            state_dict=self.detector.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scaler=self.scaler.state_dict(),
            meta=meta,
        )
        prune(folder)

    def step(self, iteration: int) -> tuple[dict[str, float], int]:
        """One iteration; returns what to log and the number of images."""
        from gol.data.loader import derive_seed, to_device

        epoch, position = divmod(iteration, len(self.loader))
        if self.batches is None or position == 0:
            self.batches = self.loader.epoch(epoch, position)
        rate = self.schedule.set(iteration)
        batch = to_device(next(self.batches), self.device)
        # The samplers of proposals and RoIs and DropLoss draw from here.
        torch.manual_seed(derive_seed("step", self.seed, iteration))
        amp = torch.autocast(self.device.type, self.dtype) if self.dtype else nullcontext()
        with amp:
            output = self.detector.train_step(batch, self.optimizer)
        values = output["log_vars"]
        if not _finite(values["loss"]):
            raise UserError(
                f"the loss is {values['loss']} at iteration {iteration}: {values}; {_ADVICE}"
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(output["loss"]).backward()
        self.scaler.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(
            self.detector.parameters(), self.max_norm or float("inf")
        )
        if not (self.scaler.is_enabled() or _finite(float(norm))):
            raise UserError(f"the gradient is not finite at iteration {iteration}; {_ADVICE}")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return {"lr": rate, **values, "grad_norm": float(norm)}, output["num_samples"]


def _finite(value: float) -> bool:
    return value - value == 0
