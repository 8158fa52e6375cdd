"""Learning rate by iteration, from mmcv's own schedule hooks and no runner."""

import math
from types import SimpleNamespace
from typing import Any

import torch


class Schedule:
    """Sets an optimizer's learning rates as mmcv's runner would, at any iteration in any order.

    Args:
        lr_config: mmdet's ``lr_config`` (policy, warm-up …).
        optimizer: the optimizer whose groups are set; its current rates are the base rates.
        epoch_length: iterations an epoch.
        max_epochs: epochs of the whole training; None: ``max_iters`` says its length.
        max_iters: iterations of the whole training.

    Attributes:
        iterations: of the whole training.
    """

    def __init__(
        self,
        lr_config: Any,
        optimizer: torch.optim.Optimizer,
        epoch_length: int,
        max_epochs: int | None,
        max_iters: int | None = None,
    ) -> None:
        from mmcv.runner.hooks import HOOKS
        from mmcv.utils import build_from_cfg

        options = dict(lr_config)
        policy = options.pop("policy")
        name = policy if policy[0].isupper() else policy.title()
        self.hook = build_from_cfg({"type": f"{name}LrUpdaterHook", **options}, HOOKS)
        self.iterations = max_iters or (max_epochs or 0) * epoch_length
        self.runner = SimpleNamespace(
            optimizer=optimizer,
            data_loader=range(epoch_length),
            max_epochs=max_epochs or math.ceil(self.iterations / epoch_length),
            max_iters=self.iterations,
        )
        self.epoch_length = epoch_length
        self.hook.before_run(self.runner)

    def set(self, iteration: int) -> float:
        """Sets the rates for ``iteration`` (0-based) and returns the first group's."""
        self.runner.epoch, self.runner.inner_iter = divmod(iteration, self.epoch_length)
        self.runner.iter = iteration
        self.hook.before_train_epoch(self.runner)
        self.hook.before_train_iter(self.runner)
        return self.runner.optimizer.param_groups[0]["lr"]
