"""Default batch sizes from free memory, limited to the size beyond which speed does not rise."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from restyle.core.networks.generator import GeneratorConfig

# On a CPU larger batches save little time; these limits bound the memory.
_CPU_PIXELS = 4 << 20
_CPU_MOST = 32
# Limit for the largest activation; one megapixel image of the published models has 33 million
# values.
_CPU_VALUES = 48_000_000

# This many pixels saturate a GPU.
_GPU_PIXELS = 32 << 20
_GPU_MOST = 128
# Share of free memory for one batch: a CUDA graph has its own memory besides that of an eager
# batch; fragmentation and the convolutions' work space take the rest.
_GPU_SHARE = 0.4

# cuDNN indexes tensors with 31 bits; it splits larger ones or computes them more slowly.
_GPU_VALUES = 2**31 - 1

# Images of a CPU's group whose latents are optimised: more are a fifth faster, but a last group
# that is not full takes as long as a full one. Large images gain nothing from company.
_CPU_GROUP, _LARGE = 4, 256
# Float32 values that a gradient needs for each one of an image's feature maps, a map for each
# resolution: those of three convolutions with what is between them, of LPIPS, and their gradients.
_GRADIENT_COPIES = 20

# Live float32 images of the generator's size: the CUDA graph's, the step's, and two in transfer.
_IMAGES = 4
# Channels of the published encoders' first feature maps, and the number of live ones.
_ENCODER_WIDTH, _ENCODER_MAPS = 64, 5
# Live float32 copies of the largest activation with reference operators.
_PLAIN_COPIES = 5


@dataclass(frozen=True)
class Footprint:
    """Peak memory of one image during a step.

    Attributes:
        generator: shape of the generator.
        image_size: height and width of the encoder's input.
        dtype: of activations.
        plain: whether the generator runs on reference operators.
    """

    generator: GeneratorConfig
    image_size: tuple[int, int]
    dtype: torch.dtype
    plain: bool = False

    @property
    def bytes(self) -> int:
        """Upper bound in bytes."""
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
            # The output of a transposed convolution, then three activations with their border.
            larger = wide * (side + 5) * (side + 5)
            values = before + (_PLAIN_COPIES if self.plain else 3) * larger
            most = max(most, values)
        return most * (torch.float32 if self.plain else self.dtype).itemsize


def cpu_batch(side: int) -> int:
    """Batch size on a CPU for images of ``side`` pixels."""
    return max(1, min(_CPU_MOST, _CPU_PIXELS // side**2))


def plain_cpu_batch(generator: GeneratorConfig) -> int:
    """Batch size of reference operators on a CPU."""
    largest = max(wide * (4 << level) ** 2 for level, wide in enumerate(generator.widths))
    return max(1, _CPU_VALUES // largest)


def gpu_batch(generator: GeneratorConfig, footprint: int, free: int) -> int:
    """Batch size on a GPU.

    Args:
        generator: shape of the generator.
        footprint: bytes per image.
        free: bytes of free memory.
    """
    # The output of a transposed convolution is the largest activation.
    largest = max(wide * ((4 << level) + 5) ** 2 for level, wide in enumerate(generator.widths))
    most = min(_GPU_MOST, _GPU_PIXELS // generator.size**2, _GPU_VALUES // largest)
    useful = max(1, most)
    return max(1, min(useful, int(free * _GPU_SHARE) // footprint))


def gradient_batch(generator: GeneratorConfig, device: torch.device) -> int:
    """Number of images whose latents are optimised together.

    On a CPU it is the same whatever the batch, so that an image always has the same result: an
    optimisation enlarges the smallest difference in rounding.

    Args:
        generator: shape of the generator.
        device: of the computation.
    """
    if device.type != "cuda":
        return _CPU_GROUP if generator.size < _LARGE else 1
    most = int(free_memory(device) * _GPU_SHARE) // gradient_footprint(generator)
    return max(1, min(_GPU_MOST, most))


def gradient_footprint(generator: GeneratorConfig) -> int:
    """Bytes that the gradient of an image with regard to its latent takes, an upper bound."""
    values = sum(wide * (4 << level) ** 2 for level, wide in enumerate(generator.widths))
    return _GRADIENT_COPIES * values * torch.float32.itemsize


def free_memory(device: torch.device) -> int:
    """Bytes available to this process on a GPU: free ones, and unused ones in torch's cache."""
    free, _ = torch.cuda.mem_get_info(device)
    kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + kept
