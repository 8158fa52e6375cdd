"""BatchNorm's running statistics and the losses' counts, over an iteration's micro-batches."""

import torch
from torch import Tensor, nn

from gol.engine.distributed import Ranks
from gol.losses import ClassificationLoss


class RunningStatistics:
    """Makes running statistics, like losses and gradients, the same whatever the number of ranks.

    Within an iteration every micro-batch updates the statistics from where they stood at its
    beginning. Of BatchNorm's the mean of the results is kept, over the micro-batches of all ranks;
    to what a loss counts (``ClassificationLoss.counts``) the sum of all that was added. Frozen
    BatchNorm (as in mmdet's pretrained backbones) costs nothing.

    Args:
        detector: in training mode.
        ranks: this process among the others.
    """

    def __init__(self, detector: nn.Module, ranks: Ranks) -> None:
        self.ranks = ranks
        modules = list(detector.modules())
        self.means: list[Tensor] = [
            buffer
            for module in modules
            if isinstance(module, nn.modules.batchnorm._BatchNorm)
            and module.training
            and module.track_running_stats
            for buffer in (module.running_mean, module.running_var, module.num_batches_tracked)
        ]
        losses = [module for module in modules if isinstance(module, ClassificationLoss)]
        self.counts: list[Tensor] = [getattr(loss, name) for loss in losses for name in loss.counts]
        self.buffers = self.means + self.counts

    def begin(self) -> None:
        """Begins an iteration."""
        # In double precision the sums do not depend on their order.
        self.before = [buffer.clone() for buffer in self.buffers]
        self.total = [torch.zeros_like(buffer, dtype=torch.float64) for buffer in self.buffers]

    @torch.no_grad()
    def add(self, weight: float) -> None:
        """Takes the update by one micro-batch, and undoes it."""
        for index, (buffer, before) in enumerate(zip(self.buffers, self.before, strict=True)):
            update = buffer if index < len(self.means) else buffer - before
            self.total[index] += weight * update
            buffer.copy_(before)

    @torch.no_grad()
    def end(self, count: int) -> None:
        """Ends the iteration of ``count`` micro-batches on all ranks."""
        self.ranks.all_reduce(self.total)
        means = len(self.means)
        for buffer, total in zip(self.means, self.total[:means], strict=True):
            buffer.copy_(total / count)
        for buffer, total in zip(self.counts, self.total[means:], strict=True):
            buffer += total.to(buffer.dtype)
