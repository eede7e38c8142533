"""Data parallel training: several processes, each with its share of every batch.

Every process draws the whole batch from the same seed and works on its part. Gradients are
averaged before each update, so that the updates do not depend on the number of processes.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Iterable, Mapping
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from restyle.core.errors import SpecError

# The others have ended their last step already when one waits for them.
_LEAVE = timedelta(seconds=20)


class Processes:
    """The group of training processes.

    Attributes:
        rank: number of this process, from 0.
        count: number of processes.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @classmethod
    def join(cls) -> Processes:
        """Join the group that ``torchrun`` started, over gloo; a group of one without torchrun."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("gloo")
            atexit.register(_leave)
        return cls(dist.get_rank(), count)

    def check(self, parts: Mapping[str, int]) -> None:
        """Check that numbers of images can be divided evenly among the processes.

        Raises:
            SpecError: one cannot.
        """
        for name, images in parts.items():
            if images % self.count:
                raise SpecError(f"{self.count} processes cannot share {images} {name} evenly")

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of a whole batch [B, ...]."""
        return batch.chunk(self.count)[self.rank] if self.count > 1 and len(batch) else batch

    def gather(self, shares: Tensor) -> Tensor:
        """The whole batch [B, ...] from the rows of all processes; without gradient."""
        if self.count == 1:
            return shares
        parts = [torch.empty_like(shares) for _ in range(self.count)]
        dist.all_gather(parts, shares.contiguous())
        return torch.cat(parts)

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace gradients by their mean over the processes."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if self.count == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        flat /= self.count
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, mean in zip(gradients, torch.split(flat, sizes), strict=True):
            gradient.copy_(mean.view_as(gradient))

    def mean(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses by name, averaged over the processes."""
        if self.count == 1:
            return dict(losses)
        values = torch.stack([value.detach().float() for value in losses.values()])
        dist.all_reduce(values)
        return dict(zip(losses, values / self.count, strict=True))

    def wait(self) -> None:
        """Wait until all processes have called this."""
        if self.count > 1:
            dist.barrier()


def _leave() -> None:
    """Leave the group together with the others.

    Gloo's threads abort a process that ends before them, or whose connections another one closes
    meanwhile.
    """
    # A process that failed does not come; torchrun ends the others.
    with contextlib.suppress(RuntimeError):
        dist.monitored_barrier(timeout=_LEAVE)
    dist.destroy_process_group()
