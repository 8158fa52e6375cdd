"""How the gradients of an iteration's micro-batches, on all ranks, become one mean.

On the CPU they are added one by one in the order of the micro-batches, as one process would: the
same training, bit for bit, whatever the number of ranks. (Rounding alone would soon make another
training: it decides which proposals are taken.) On GPUs DDP adds them in whatever order is fastest.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gol.engine.distributed import Ranks


class Exchange:
    """A module whose gradients are shared with the other ranks.

    Args:
        module: its forward returns losses.
        ranks: this process among the others.

    Attributes:
        model: what to call instead of ``module``.
        factor: what a micro-batch's share of the loss is to be multiplied with.
    """

    def __init__(self, module: nn.Module, ranks: Ranks) -> None:
        self.model, self.factor = module, 1
        self.ordered = ranks.device.type == "cpu"
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        self.before: dict[nn.Parameter, Tensor] = {}
        self.world = ranks.world
        if ranks.world == 1:
            return
        index = ranks.device.index
        self.model = DistributedDataParallel(
            module, device_ids=None if index is None else [index], broadcast_buffers=False
        )
        if self.ordered:
            self.model.register_comm_hook(self, _add_in_order)
        else:
            self.factor = ranks.world  # by which DDP divides

    @contextmanager
    def accumulate(self, last: bool) -> Iterator[None]:
        """Context for forward and backward of one micro-batch on each rank."""
        if self.world == 1:
            yield
        elif self.ordered:
            self.before = {p: p.grad for p in self.parameters if p.grad is not None}
            for parameter in self.parameters:
                parameter.grad = None
            yield
        elif last:
            yield
        else:
            with self.model.no_sync():
                yield


def _add_in_order(exchange: Exchange, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """DDP's communication hook: earlier rounds, then rank 0, rank 1 …"""
    gradient = bucket.buffer()
    parts = [torch.empty_like(gradient) for _ in range(exchange.world)]
    dist.all_gather(parts, gradient)
    if exchange.before:
        place = 0
        for parameter in bucket.parameters():
            # The bucket holds a gradient in its parameter's memory format.
            view = gradient.as_strided(parameter.shape, parameter.stride(), place)
            place += view.copy_(exchange.before[parameter]).numel()
        parts.insert(0, gradient)
    done = torch.futures.Future()
    done.set_result(sum(parts[1:], parts[0]))
    return done
