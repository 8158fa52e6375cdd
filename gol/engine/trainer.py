"""One rank's detector, optimizer, schedule and data, and what an iteration does with them.

An iteration consumes ``gol.global_batch`` images as micro-batches of ``data.samples_per_gpu``.
With W ranks each takes every W-th of them, and losses and gradients are means over all: one rank
with 4 micro-batches, 2 with 2 and 4 with 1 are the same training. More ranks than micro-batches
make these smaller, which is another training, and the log says so.

Shapes: W: ranks, M: micro-batches of an iteration on all ranks, B: images of a micro-batch, L: what
a detector says of one: its losses, the accuracy, and the losses' sum.
"""

import math
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gol import __version__
from gol.compat.deferred import no_compiler
from gol.config.own import own_part
from gol.data.images import MIN_SIDE
from gol.data.loader import EpochLoader, derive_seed, on_device
from gol.engine.checkpoints import (
    checkpoint_path,
    newest_checkpoint,
    prune,
    read_checkpoint,
    save_checkpoint,
)
from gol.engine.distributed import Ranks, loading_workers
from gol.engine.exchange import Exchange
from gol.engine.precision import Precision, find_precision
from gol.engine.running_statistics import RunningStatistics
from gol.errors import UserError
from gol.models.state import listing, mismatches
from gol.run_folder import RunFolder

_ADVICE = "lower the learning rate or clip gradients (optimizer_config.grad_clip)"


class _Losses(nn.Module):
    """B images in, L scalars out: each loss, the accuracy, and as ``loss`` the losses' sum."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        values = {}
        for name, value in self.detector(**batch).items():
            parts = value if isinstance(value, list) else [value]
            values[name] = sum(part.mean() for part in parts)
        return {**values, "loss": sum(v for name, v in values.items() if "loss" in name)}


class _Scaler:
    """Scales float16 losses on CUDA as mmcv's ``fp16.loss_scale`` says; otherwise does nothing.

    Args:
        enabled: whether to scale.
        setting: ``"dynamic"``, a mapping of ``GradScaler``'s arguments, or a fixed number.
    """

    def __init__(self, enabled: bool, setting: Any = "dynamic") -> None:
        self.fixed = float(setting) if isinstance(setting, (int, float)) else None
        options = {"init_scale": self.fixed} if self.fixed else {}
        options = {} if isinstance(setting, str) else options or dict(setting)
        self.torch = torch.amp.GradScaler("cuda", enabled=enabled, **options)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        self.torch.step(optimizer)
        self.torch.update(self.fixed)


class Trainer:
    """One rank of a training.

    Args:
        config: the resolved config.
        ranks: this process among the others.
        precision: what to compute in; by default what the config says for the device.

    Raises:
        UserError: no images, or a batch that the ranks cannot share.
    """

    def __init__(self, config: Any, ranks: Ranks, precision: Precision | None = None) -> None:
        from mmcv.runner import build_optimizer

        from gol.config.schedule import Schedule
        from gol.models import build_dataset, build_detector

        own = own_part(config)
        dataset = build_dataset(config.data.train)
        if not len(dataset):
            part = config.data.train.get("dataset", config.data.train)
            raise UserError(
                f"{part.ann_file} has no image to train on: none has annotations and both sides "
                f"of at least {MIN_SIDE} px"
            )
        self.classes, self.ranks, self.seed = dataset.CLASSES, ranks, config.seed
        self.scoring = own.activations[-1]
        self.loader = EpochLoader(
            dataset,
            config.data.samples_per_gpu,
            config.seed,
            loading_workers(config, ranks.world),
            own.global_batch,
            ranks.rank,
            ranks.world,
            pin=ranks.device.type == "cuda",
        )
        self.precision = precision or find_precision(own, ranks.device)
        detector = build_detector(config).to(ranks.device)
        self.detector = self.precision.prepare(detector).train()
        self.parameters = list(detector.parameters())  # to walk the modules takes milliseconds
        factor = self.loader.global_batch / own.base_batch
        optimizer = {**config.optimizer, "lr": config.optimizer.lr * factor}
        with no_compiler():
            self.optimizer = build_optimizer(self.detector, optimizer)
        length = config.runner.get("max_epochs"), config.runner.get("max_iters")
        self.schedule = Schedule(config.lr_config, self.optimizer, len(self.loader), *length)
        half = self.precision.dtype == torch.float16 and ranks.device.type == "cuda"
        self.scaler = _Scaler(half, config.get("fp16", {}).get("loss_scale", "dynamic"))
        self.max_norm = (config.optimizer_config.grad_clip or {}).get("max_norm")
        self.statistics = RunningStatistics(self.detector, ranks)
        self.exchange = Exchange(_Losses(self.detector), ranks)
        self.batches: Any = None
        if ranks.is_main:
            print(self._describe(config.optimizer.lr, own.base_batch), file=sys.stderr)

    def _describe(self, rate: float, base: int) -> str:
        images, micro, world = self.loader.global_batch, self.loader.micro_batch, self.ranks.world
        text = (
            f"learning rate {rate * images / base:g} = {rate:g} x {images}/{base} images; "
            f"ranks {world}, micro-batches of {micro}, {images // micro // world} of them per rank "
            "and iteration"
        )
        if micro < self.loader.batch_size:
            text += (
                f"; less than data.samples_per_gpu {self.loader.batch_size}, so batch norm and "
                "losses are averaged in smaller parts than with fewer ranks"
            )
        return text

    def resume(self, run: RunFolder, fingerprint: str) -> dict[str, Any]:
        """Loads the newest readable checkpoint, the same on all ranks.

        Returns:
            Its ``meta``: iterations done (``iter``), ``seconds`` spent, time of the start
            (``started``).

        Raises:
            UserError: it is of a run with another fingerprint, or does not fit; a checkpoint
                cannot be read now.
        """
        content = newest_checkpoint(run.checkpoints) if self.ranks.is_main else None
        done = self.ranks.broadcast(content["meta"]["iter"] if content else None)
        if done is None:
            return {"iter": 0, "seconds": 0.0, "started": time.time()}
        path = checkpoint_path(run.checkpoints, done)
        content = content or read_checkpoint(path)
        if content["meta"]["fingerprint"] != fingerprint:
            raise run.refusal()
        self._load(content, path)
        return content["meta"]

    def _load(self, content: dict[str, Any], path: Path) -> None:
        problems = mismatches(content["state_dict"], self.detector.state_dict())
        try:
            if problems:
                raise ValueError(listing(problems))
            self.detector.load_state_dict(content["state_dict"])
            with no_compiler():
                self.optimizer.load_state_dict(content["optimizer"])
            if content["scaler"] and self.scaler.torch.is_enabled():  # empty if it began on a CPU
                self.scaler.torch.load_state_dict(content["scaler"])
        except (LookupError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(f"{path} does not fit the model: {error}") from error

    def save(
        self, run: RunFolder, done: int, fingerprint: str, started: float, seconds: float
    ) -> None:
        """Writes a checkpoint after ``done`` iterations (rank 0 alone)."""
        meta = {
            "iter": done,
            "epoch": done // len(self.loader),
            "seconds": seconds,
            "started": started,
            "fingerprint": fingerprint,
            "CLASSES": list(self.classes),
            "gol": __version__,
            "scoring": self.scoring,
            **self.precision.record,
        }
        path = checkpoint_path(run.checkpoints, done)
        with no_compiler():
            optimizer = self.optimizer.state_dict()
        save_checkpoint(
            path,
            state_dict=self.detector.state_dict(),
            optimizer=optimizer,
            scaler=self.scaler.torch.state_dict(),
            meta=meta,
        )
        prune(run.checkpoints, path)

    def step(self, iteration: int) -> dict[str, float]:
        """One iteration of M micro-batches; returns what to log, the same on all ranks.

        That is the learning rate, L means over the micro-batches, and the gradient's norm before
        clipping.

        Raises:
            UserError: the loss or the gradient is not finite.
        """
        epoch, position = divmod(iteration, len(self.loader))
        if self.batches is None or position == 0:
            loaded = self.loader.epoch(epoch, position)
            self.batches = on_device(loaded, self.ranks.device, self.precision.memory_format)
        rate = self.schedule.set(iteration)
        names, totals = self._gradients(iteration, position)
        self.scaler.torch.unscale_(self.optimizer)
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_norm or float("inf"))
        # All at once, and nowhere else in a step: a GPU is waited for here.
        *totals, norm = torch.cat([totals, norm.double()[None]]).tolist()
        count = self.loader.count(position)
        sums = self.ranks.sum(totals)
        values = {name: value / count for name, value in zip(names, sums, strict=True)}
        if not math.isfinite(values["loss"]):
            raise UserError(
                f"the loss is {values['loss']} at iteration {iteration}: {values}; {_ADVICE}"
            )
        if not (self.scaler.torch.is_enabled() or math.isfinite(norm)):
            raise UserError(f"the gradient is not finite at iteration {iteration}; {_ADVICE}")
        with no_compiler():
            self.scaler.step(self.optimizer)
        return {"lr": rate, **values, "grad_norm": norm}

    def _gradients(self, iteration: int, position: int) -> tuple[list[str], Tensor]:
        """Leaves the mean gradient over M micro-batches in the parameters.

        Returns:
            The names of L values, and (L,) float64: their sums over this rank's micro-batches.
        """
        count, own = self.loader.count(position), self.loader.own(position)
        total: Any = 0
        for parameter in self.parameters:
            parameter.grad = None
        self.statistics.begin()
        for turn, (number, weight) in enumerate(own, 1):
            batch = next(self.batches)
            # The samplers of proposals and RoIs and DropLoss draw from here.
            torch.manual_seed(derive_seed("step", self.seed, iteration) + number)
            with self.exchange.accumulate(last=turn == len(own)):
                with self.precision.autocast(self.ranks.device):
                    losses = self.exchange.model(batch)
                share = losses["loss"] * (weight / count * self.exchange.factor)
                self.scaler.torch.scale(share).backward()
            total = total + weight * torch.stack([v.detach().double() for v in losses.values()])
            self.statistics.add(weight)
        self.statistics.end(count)
        return list(losses), total
