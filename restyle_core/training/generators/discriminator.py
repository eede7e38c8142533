"""StyleGAN2's residual discriminator (Karras et al., 1912.04958, section 4.1 and appendix B)."""

from __future__ import annotations

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.networks.generator import EqualizedLinear

_BLUR = (1.0, 3.0, 3.0, 1.0)
_GROUP = 4
_SLOPE = 0.2


class EqualizedConv(nn.Module):
    """Convolution with equalized learning rate; ``down`` blurs and halves the size."""

    kernel: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, size: int, *, down: bool = False, bias: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, size, size))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.scale = 1 / math.sqrt(in_channels * size * size)
        self.down = down
        if down:
            total = sum(_BLUR) ** 2
            kernel = torch.tensor([[a * b / total for a in _BLUR] for b in _BLUR])
            self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H, W], or half of H and W."""
        size, stride, padding = self.weight.shape[-1], 1, self.weight.shape[-1] // 2
        if self.down:
            channels = x.shape[1]
            blur = self.kernel.to(x.dtype).expand(channels, 1, -1, -1)
            if size == 1:
                # A 1x1 convolution of stride 2 reads only every second blurred pixel.
                x = F.conv2d(x, blur, stride=2, padding=1, groups=channels)
            else:
                x = F.conv2d(x, blur, padding=2, groups=channels)
                stride, padding = 2, 0
        return F.conv2d(x, self.weight * self.scale, self.bias, stride, padding)


class ResidualBlock(nn.Module):
    """Two convolutions and a projection of the input; halves the size."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = EqualizedConv(in_channels, in_channels, 3, bias=True)
        self.conv2 = EqualizedConv(in_channels, out_channels, 3, down=True, bias=True)
        self.skip = EqualizedConv(in_channels, out_channels, 1, down=True, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, in, H, W] -> [B, out, H/2, W/2]."""
        y = self.conv2(_activate(self.conv1(x)))
        total: Tensor = (_activate(y) + self.skip(x)) / math.sqrt(2)
        return total


class Discriminator(nn.Module):
    """Classifies images as real or generated.

    Args:
        widths: channels of each resolution from 4x4 up, as in the generator.
    """

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        falling = widths[::-1]
        self.from_rgb = EqualizedConv(3, falling[0], 1, bias=True)
        self.blocks = nn.ModuleList(
            ResidualBlock(wide, narrow) for wide, narrow in itertools.pairwise(falling)
        )
        last = widths[0]
        self.conv = EqualizedConv(last + 1, last, 3, bias=True)
        self.linear = EqualizedLinear(last * 16, last)
        self.score = EqualizedLinear(last, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, S, S] in [-1, 1] -> logits [B]; above zero means real."""
        x = _activate(self.from_rgb(images.contiguous(memory_format=torch.channels_last)))
        for block in self.blocks:
            x = block(x)
        x = _activate(self.conv(with_deviation(x)))
        x = _activate(self.linear(x.flatten(1)))
        logits: Tensor = self.score(x)
        return logits[:, 0].float()


def with_deviation(x: Tensor) -> Tensor:
    """Append the minibatch standard deviation as a channel (1710.10196, section 3).

    Groups have consecutive images, so that processes that share a batch have whole groups.

    Args:
        x: [B, C, H, W].

    Returns:
        [B, C + 1, H, W].
    """
    batch, _, height, width = x.shape
    group = group_size(batch)
    grouped = x.reshape(batch // group, group, *x.shape[1:]).float()
    deviation = (grouped.var(dim=1, unbiased=False) + 1e-8).sqrt().mean(dim=(1, 2, 3))
    plane = deviation.to(x.dtype).repeat_interleave(group)[:, None, None, None]
    return torch.cat([x, plane.expand(-1, 1, height, width)], dim=1)


def group_size(batch: int) -> int:
    """Images per group of :func:`with_deviation`: at most four, and a divisor of the batch."""
    return next(size for size in range(min(_GROUP, batch), 0, -1) if batch % size == 0)


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, _SLOPE) * math.sqrt(2)
