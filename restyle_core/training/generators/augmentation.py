"""Adaptive augmentation of a discriminator's input (Karras et al., 2006.06676).

Real and generated images pass the same random transformations, each with probability p. The
discriminator then overfits less, and for p below about 0.8 the generator still learns the
untransformed distribution. p follows the mean sign of the discriminator's logits on real images.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle.core.training.processes import Processes

_SCALE_LOG2 = 0.2
_TRANSLATION = 0.125
_BRIGHTNESS = 0.2
_CONTRAST_LOG2 = 0.5
_SATURATION_LOG2 = 1.0
_LIMIT = 0.8


class AdaptiveAugmentation(nn.Module):
    """Flips, quarter turns, shifts, scaling, rotation and changes of colour.

    Args:
        target: mean sign of the logits on real images to which p is adjusted; 0 leaves p at 0.
        images: images over which p can rise from 0 to 1.
        mirror: whether mirrored images belong to the distribution; half of all images are then
            flipped left to right at any p.
        processes: the processes that share each batch; random numbers are drawn for all of it.
    """

    probability: Tensor
    # Running mean of the signs (r_t of the paper); the name is that of earlier checkpoints.
    sureness: Tensor

    def __init__(
        self, target: float, images: int, *, mirror: bool, processes: Processes | None = None
    ) -> None:
        super().__init__()
        self._processes = processes or Processes()
        self.target, self.images, self.mirror = target, images, mirror
        self.register_buffer("probability", torch.zeros(()))
        self.register_buffer("sureness", torch.zeros(()))

    def adapt(self, real_logits: Tensor) -> None:
        """Update p by the discriminator's logits [B] on real images."""
        if self.target == 0:
            return
        real_logits = self._processes.gather(real_logits.detach())
        # A mean over about four batches (section 3.1).
        self.sureness.lerp_(real_logits.sign().mean(), 0.25)
        change = len(real_logits) / self.images
        direction = torch.sign(self.sureness - self.target)
        self.probability.add_(change * direction).clamp_(0, _LIMIT)

    def forward(self, images: Tensor) -> Tensor:
        """Transform images [B, 3, S, S] in [-1, 1]; differentiable once with respect to them."""
        probability = float(self.probability)
        if self.mirror:
            flipped = self._processes.share(torch.rand(self._whole(images)) < 0.5)
            images = torch.where(flipped[:, None, None, None], images.flip(3), images)
        if probability == 0:
            return images
        return self._recolour(self._move(images, probability), probability)

    def _whole(self, images: Tensor) -> int:
        """Number of images in the batch of all processes."""
        return len(images) * self._processes.count

    def _move(self, images: Tensor, probability: float) -> Tensor:
        count = self._whole(images)
        happens = torch.rand(6, count) < probability
        matrix = torch.eye(2).repeat(count, 1, 1)
        if not self.mirror:
            flip = torch.where(happens[0] & (torch.rand(count) < 0.5), -1.0, 1.0)
            matrix = matrix * torch.stack([flip, torch.ones(count)], 1)[:, None, :]
        turns = torch.where(happens[1], torch.randint(0, 4, (count,)), 0) * (math.pi / 2)
        angle = torch.where(happens[2], (torch.rand(count) * 2 - 1) * math.pi, 0.0)
        scale = _lognormal(happens[3], _SCALE_LOG2)
        stretch = _lognormal(happens[4], _SCALE_LOG2)
        stretching = torch.diag_embed(torch.stack([scale * stretch, scale / stretch], 1))
        matrix = _rotation(turns + angle) @ stretching @ matrix
        shift = torch.randn(count, 2) * _TRANSLATION * 2
        shift = torch.where(happens[5][:, None], shift, 0.0)
        affine = torch.cat([matrix, shift[:, :, None]], dim=2).to(images.dtype)
        affine = self._processes.share(affine)
        grid = F.affine_grid(affine, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def _recolour(self, images: Tensor, probability: float) -> Tensor:
        count = self._whole(images)
        happens = torch.rand(4, count) < probability
        brightness = torch.where(happens[0], torch.randn(count) * _BRIGHTNESS, 0.0)
        contrast = _lognormal(happens[1], _CONTRAST_LOG2)
        hue = torch.where(happens[2], (torch.rand(count) * 2 - 1) * math.pi, 0.0)
        saturation = _lognormal(happens[3], _SATURATION_LOG2)
        grey = torch.full((3, 3), 1 / 3)
        around_grey = _rotation_around_grey(hue) - grey
        matrix = (grey + saturation[:, None, None] * around_grey) * contrast[:, None, None]
        matrix, brightness = (self._processes.share(each) for each in (matrix, brightness))
        colours = torch.einsum("bij,bjhw->bihw", matrix.to(images.dtype), images)
        return colours + brightness.to(images.dtype)[:, None, None, None]


def _lognormal(happens: Tensor, deviation: float) -> Tensor:
    return torch.where(happens, torch.exp2(torch.randn(len(happens)) * deviation), 1.0)


def _rotation(angle: Tensor) -> Tensor:
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([torch.stack([cosine, -sine], 1), torch.stack([sine, cosine], 1)], 1)


def _rotation_around_grey(angle: Tensor) -> Tensor:
    """Rotations [B, 3, 3] of colours around the axis of greys, by Rodrigues' formula."""
    cosine, sine = angle.cos()[:, None, None], angle.sin()[:, None, None]
    grey = torch.full((3, 3), 1 / 3)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]]) / math.sqrt(3)
    return cosine * torch.eye(3) + sine * cross + (1 - cosine) * grey
