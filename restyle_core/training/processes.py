"""Several processes that train one network, each with its share of every batch.

Every process draws the whole batch from the same seed and works on its part of it. Gradients are
averaged before each update, so any number of processes makes the updates that one would make.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterable, Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn

from restyle.core.errors import SpecError


class Processes:
    """What a process knows of the others.

    Attributes:
        rank: its number.
        count: how many there are.
    """

    def __init__(self, rank: int = 0, count: int = 1) -> None:
        self.rank, self.count = rank, count

    @classmethod
    def join(cls) -> Processes:
        """Join those that ``torchrun`` started, over gloo; alone where it started none."""
        count = int(os.environ.get("WORLD_SIZE", "1"))
        if count == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("gloo")
            # Threads that outlive the interpreter abort it, now and then.
            atexit.register(dist.destroy_process_group)
        return cls(dist.get_rank(), count)

    def check(self, parts: Mapping[str, int]) -> None:
        """Refuse numbers of images that cannot be divided evenly.

        Raises:
            SpecError: there are such.
        """
        for name, images in parts.items():
            if images % self.count:
                raise SpecError(f"{self.count} processes cannot share {images} {name} evenly")

    def share(self, batch: Tensor) -> Tensor:
        """This process's rows of a whole batch [B, ...]."""
        return batch.chunk(self.count)[self.rank] if self.count > 1 and len(batch) else batch

    def gather(self, shares: Tensor) -> Tensor:
        """The whole batch [B, ...] from the rows of each; no gradient flows."""
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
        """Go on when all have come this far."""
        if self.count > 1:
            dist.barrier()
