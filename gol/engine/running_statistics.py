"""BatchNorm's running statistics as a mean over the micro-batches of an iteration."""

import torch
from torch import Tensor, nn

from gol.engine.distributed import Ranks


class RunningStatistics:
    """Makes running statistics, like losses and gradients, the same whatever the number of ranks.

    Within an iteration every micro-batch updates the statistics from where they stood at its
    beginning, and the mean of the results, over the micro-batches of all ranks, is kept. Frozen
    BatchNorm (as in mmdet's pretrained backbones) costs nothing.

    Args:
        detector: in training mode.
        ranks: this process among the others.
    """

    def __init__(self, detector: nn.Module, ranks: Ranks) -> None:
        self.ranks = ranks
        self.buffers: list[Tensor] = [
            buffer
            for module in detector.modules()
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.training
            and module.track_running_stats
            for buffer in (module.running_mean, module.running_var, module.num_batches_tracked)
        ]

    def begin(self) -> None:
        """Begins an iteration."""
        # In double precision the sums do not depend on their order.
        self.before = [buffer.clone() for buffer in self.buffers]
        self.total = [torch.zeros_like(buffer, dtype=torch.float64) for buffer in self.buffers]

    @torch.no_grad()
    def add(self, weight: float) -> None:
        """Takes the update by one micro-batch, and undoes it."""
        for buffer, before, total in zip(self.buffers, self.before, self.total, strict=True):
            total += weight * buffer
            buffer.copy_(before)

    @torch.no_grad()
    def end(self, count: int) -> None:
        """Ends the iteration of ``count`` micro-batches on all ranks."""
        self.ranks.all_reduce(self.total)
        for buffer, total in zip(self.buffers, self.total, strict=True):
            buffer.copy_(total / count)
