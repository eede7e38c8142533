"""Default batch size: what fits into free memory, and no more than gains speed."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from restyle.core.networks.generator import GeneratorConfig

# On a CPU a batch saves little: about what fits beside the model in memory.
_CPU_PIXELS = 4 << 20
_CPU_MOST = 32
# Values of the largest activation; a megapixel image of the published models has 33 million.
_CPU_VALUES = 48_000_000

# A GPU is busy with so many pixels, and gains nothing from more.
_GPU_PIXELS = 32 << 20
_GPU_MOST = 128
# Of the memory that is free: a recorded step has memory of its own, beside that of a batch which
# is not recorded; what fragments, and the convolutions' work space, takes the rest.
_GPU_SHARE = 0.4

# cuDNN counts values of a tensor in 31 bits; larger ones it splits, or computes more slowly.
_GPU_VALUES = 2**31 - 1

# float32 images of the generator's size that are alive beside activations: that of the recording,
# the step's, and two that are on their way to the CPU.
_IMAGES = 4
# Channels of the published encoders' first maps, and how many such maps are alive together.
_ENCODER_WIDTH, _ENCODER_MAPS = 64, 5
# What plain operators hold of their largest activation, in float32.
_PLAIN_COPIES = 5


@dataclass(frozen=True)
class Footprint:
    """What one image takes while a step is computed.

    Attributes:
        generator: its shape.
        image_size: height and width of the encoder's input.
        dtype: of activations.
        plain: the generator runs on plain operators.
    """

    generator: GeneratorConfig
    image_size: tuple[int, int]
    dtype: torch.dtype
    plain: bool = False

    @property
    def bytes(self) -> int:
        """At most."""
        pixels = self.image_size[0] * self.image_size[1]
        encoder = _ENCODER_MAPS * _ENCODER_WIDTH * pixels * self.dtype.itemsize
        image = 3 * self.generator.size**2 * torch.float32.itemsize
        inputs = 4 * 3 * pixels * torch.float32.itemsize
        return max(encoder, self._synthesis()) + _IMAGES * image + inputs

    def _synthesis(self) -> int:
        widths, most = self.generator.widths, 0
        for level, wide in enumerate(widths):
            side = 4 << level
            before = widths[level - 1] * (side // 2 + 2) * (side // 2) if level else 0
            # What a transposed convolution makes, then three activations with their border.
            larger = wide * (side + 5) * (side + 5)
            values = before + (_PLAIN_COPIES if self.plain else 3) * larger
            most = max(most, values)
        return most * (torch.float32 if self.plain else self.dtype).itemsize


def cpu_batch(side: int) -> int:
    """Images of so many pixels a side that a CPU has in work at once."""
    return max(1, min(_CPU_MOST, _CPU_PIXELS // side**2))


def plain_cpu_batch(generator: GeneratorConfig) -> int:
    """Images that plain operators are given at once on a CPU, where several save no time."""
    largest = max(wide * (4 << level) ** 2 for level, wide in enumerate(generator.widths))
    return max(1, _CPU_VALUES // largest)


def gpu_batch(generator: GeneratorConfig, footprint: int, free: int) -> int:
    """Images that a GPU has in work at once.

    Args:
        generator: its shape.
        footprint: bytes that each takes.
        free: bytes that are free.
    """
    # What a transposed convolution makes is the largest.
    largest = max(wide * ((4 << level) + 5) ** 2 for level, wide in enumerate(generator.widths))
    most = min(_GPU_MOST, _GPU_PIXELS // generator.size**2, _GPU_VALUES // largest)
    useful = max(1, most)
    return max(1, min(useful, int(free * _GPU_SHARE) // footprint))


def free_memory(device: torch.device) -> int:
    """Bytes of a GPU that this process can have: free ones, and those that torch keeps unused."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept
