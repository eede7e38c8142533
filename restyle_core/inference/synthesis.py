"""Synthesis prepared for inference.

Weights are scaled, rounded and converted to the convolutions' layout once. Styles scale activations
instead of weights, so that images share one dense convolution. The operations between two
convolutions are one pass over the activations (see :mod:`restyle.kernels.layers`). On a CPU, large
layers are computed in strips of rows, so that a convolution's output is in cache when it is read.

Every activation has a row of zeros above and below, so that any strip with its neighbouring rows is
an input of a convolution without a copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle.core.networks.convolution import Target, doubling, in_best_layout
from restyle.core.networks.generator import EqualizedLinear, Generator, StyledConv, ToRGB
from restyle.kernels import native, winograd
from restyle.kernels.layers import (
    Epilogue,
    RGBProjection,
    blur_layer,
    to_rgb_convolution,
    to_rgb_layer,
)
from restyle.kernels.reference import DEMODULATION_EPSILON
from restyle.kernels.winograd import Filters

# Bytes of a strip of a convolution's output. Strips of a transposed convolution are larger, because
# it computes the rows at their borders twice.
_STRIP = 4 << 20
_TALL_STRIP = 8 << 20
# Largest output of a convolution in bytes for which images are computed as a batch.
_TOGETHER = 16 << 20
# Smallest side of layers whose convolution and epilogue are one operator. In smaller layers the
# weights are larger than the activations, and only a separate convolution divides them by threads.
_WHOLE = 32


def prepare_synthesis(generator: Generator, target: Target) -> PreparedSynthesis | None:
    """Prepare a generator for inference.

    Args:
        generator: its parameters are copied, so later changes have no effect.
        target: device, and dtype of activations.

    Returns:
        None if there are no compiled operators, or if a smoothing filter is not separable.

    Raises:
        KernelError: the generator's ``impl`` is ``native``, but there are no compiled operators.
    """
    library = native.library(target.device.type, generator.impl)
    # Only filters have a buffer called kernel; all are 4x4 in the published layout.
    filters = [buffer for name, buffer in generator.named_buffers() if name.endswith(".kernel")]
    if library is None or any(_separated(kernel) is None for kernel in filters):
        return None
    return PreparedSynthesis(generator, target)


class PreparedSynthesis:
    """Fast form of :meth:`restyle.core.networks.generator.Generator.synthesis` with stored noise.

    Args:
        generator: a generator with separable filters.
        target: device, and dtype of activations.
    """

    def __init__(self, generator: Generator, target: Target) -> None:
        self._target = target
        self._input = _put(generator.input.input, target)
        noises = generator.stored_noise()
        self._first = _Styled(generator.conv1, noises[0], target)
        self._first_rgb = _ToRGB(generator.to_rgb1, target)
        # ModuleLists do not have element types.
        convs = cast(Sequence[StyledConv], generator.convs)
        to_rgbs = cast(Sequence[ToRGB], generator.to_rgbs)
        self._blocks = [
            _Block(
                _Styled(convs[2 * i], noises[2 * i + 1], target),
                _Styled(convs[2 * i + 1], noises[2 * i + 2], target),
                _ToRGB(to_rgb, target),
                target,
            )
            for i, to_rgb in enumerate(to_rgbs)
        ]

    @torch.no_grad()
    def __call__(self, latents: Tensor) -> Tensor:
        """[B, n_styles, style_dim] float32 -> [B, 3, size, size] float32, not clipped."""
        batch = latents.shape[0]
        style = self._first.style(latents[:, 0])
        x = _buffer(batch, self._input.shape[1], 4, self._target)
        x[:, :, 1:-1] = (self._input * style[:, :, None, None]).to(x.dtype)
        following = self._blocks[0].up.style(latents[:, 1]) if self._blocks else None
        epilogue = self._first.epilogue(style, following)
        projection = self._first_rgb.projection(latents[:, 1], None)
        image = x.new_empty((batch, 3, 4, 4), dtype=torch.float32)
        y = _buffer(batch, self._first.out_channels, 4, self._target)
        to_rgb_layer(self._first.convolve(x), y[:, :, 1:-1], image, 0, epilogue, projection)
        return self._finish(y, image, latents, 0)

    def _finish(self, x: Tensor, image: Tensor, latents: Tensor, first: int) -> Tensor:
        """Compute the image from the activations and the image of block ``first - 1``."""
        for index in range(first, len(self._blocks)):
            block = self._blocks[index]
            if len(x) > 1 and not block.in_one_piece(len(x), 2 * x.shape[3]):
                # Single images bound the memory.
                parts = [slice(at, at + 1) for at in range(len(x))]
                return torch.cat([self._finish(x[i], image[i], latents[i], index) for i in parts])
            after = self._blocks[index + 1].up if index + 1 < len(self._blocks) else None
            styles = latents[:, 2 * index + 1 : 2 * index + 4]
            x, image = block(x, image, styles, after)
        return image


class _Styled:
    """Parameters of a styled convolution.

    Attributes:
        out_channels: of the convolution.
        taps: of the filter after an upsampling convolution; otherwise zeros.
    """

    def __init__(self, layer: StyledConv, noise: Tensor, target: Target) -> None:
        weight = layer.conv.scaled_weight.detach()
        self.out_channels = weight.shape[0]
        self._modulation = _linear(layer.conv.modulation, target)
        self._energy = _put(weight.float().square().sum(dim=(2, 3)).t(), target)
        blur = layer.conv.blur
        self.taps = _taps(None if blur is None else blur.kernel, target)
        self._convolution = _Convolution(weight, target, transposed=blur is not None)
        self._noise = _put(noise, target)
        self._strength = _put(layer.noise.weight, target)
        self._bias = _put(layer.activate.bias, target)

    def style(self, latent: Tensor) -> Tensor:
        """[B, style_dim] -> [B, in]."""
        return _affine(self._modulation, latent)

    @property
    def filters(self) -> Filters | None:
        """See :attr:`_Convolution.filters`."""
        return self._convolution.filters

    def convolve(self, rows: Tensor) -> Tensor:
        """Convolve rows with their neighbours, scaled by the style."""
        return self._convolution(rows)

    def epilogue(self, style: Tensor, following: Tensor | None) -> Epilogue:
        """Parameters of the operations after the convolution, from this and the next style."""
        demodulation = torch.rsqrt(style.square() @ self._energy + DEMODULATION_EPSILON)
        return Epilogue(demodulation, self._noise, self._strength, self._bias, following)


class _ToRGB:
    """Parameters of a projection to RGB."""

    def __init__(self, layer: ToRGB, target: Target) -> None:
        self._weight = _put(layer.conv.scaled_weight[:, :, 0, 0], target)
        self._bias = _put(layer.bias.flatten(), target)
        self._modulation = _linear(layer.conv.modulation, target)
        self._taps = _taps(None if layer.upsample is None else layer.upsample.kernel, target)

    def projection(self, latent: Tensor, skip: Tensor | None) -> RGBProjection:
        """Parameters of the projection for a latent [B, style_dim] and the lower image, if any."""
        style = _affine(self._modulation, latent)
        return RGBProjection(self._weight * style[:, None, :], self._bias, *self._taps, skip)


class _Convolution:
    """A 3x3 convolution, or its transpose, of rows with their neighbours.

    Attributes:
        filters: Winograd filters of the weight, or None where they are not faster.
    """

    def __init__(self, weight: Tensor, target: Target, *, transposed: bool) -> None:
        self._transposed = transposed
        self.filters = target.filters(weight, doubles=transposed)
        if self.filters is not None:
            return
        self._packed = target.packs
        weight = target.put(weight.transpose(0, 1) if transposed else weight)
        if not self._packed and transposed:
            self._layer = doubling(weight)
        elif not self._packed:
            self._layer = in_best_layout(weight, _between_rows)
        elif transposed:
            self._weight = torch.ops.mkldnn._reorder_convolution_transpose_weight(
                weight.contiguous(), [0, 0], [0, 0], [2, 2], [1, 1], 1
            )
        else:
            self._weight = torch.ops.mkldnn._reorder_convolution_weight(
                weight.contiguous(), [0, 1], [1, 1], [1, 1], 1
            )

    def __call__(self, x: Tensor) -> Tensor:
        """[B, in, rows + 2, W] -> [B, out, rows, W]; transposed [B, out, 2 rows + 5, 2 W + 1]."""
        if self.filters is not None:
            return winograd.convolve(x, self.filters, above=0)
        if not self._packed:
            return self._layer(x)
        y: Tensor
        if self._transposed:
            y = torch.ops.mkldnn._convolution_transpose_pointwise(
                x, self._weight, None, [0, 0], [0, 0], [2, 2], [1, 1], 1, "none", [], ""
            )
        else:
            y = torch.ops.mkldnn._convolution_pointwise(
                x, self._weight, None, [0, 1], [1, 1], [1, 1], 1, "none", [], ""
            )
        return y


def _between_rows(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve rows with their neighbours."""
    return F.conv2d(x, weight, padding=(0, 1))


@dataclass(frozen=True, eq=False)
class _Block:
    """The two convolutions and the RGB projection of one resolution."""

    up: _Styled
    flat: _Styled
    to_rgb: _ToRGB
    target: Target

    def in_one_piece(self, images: int, side: int) -> bool:
        """Whether a batch of ``images`` with ``side`` rows is computed at once."""
        return self._rows(side, _TOGETHER // images) >= side

    def __call__(
        self, x: Tensor, image: Tensor, latents: Tensor, after: _Styled | None
    ) -> tuple[Tensor, Tensor]:
        """Double the resolution.

        Args:
            x: [B, in, H + 2, W], scaled by the style of the first convolution.
            image: [B, 3, H, W].
            latents: [B, 3, style_dim], of the two convolutions and of the projection to RGB.
            after: the next block's first convolution, which shares the projection's latent.

        Returns:
            Activations and image of twice the resolution; without ``after`` the activations are
            undefined.
        """
        batch, side = len(x), 2 * x.shape[3]
        style, flat_style = self.up.style(latents[:, 0]), self.flat.style(latents[:, 1])
        epilogue = self.up.epilogue(style, flat_style)
        middle = _buffer(batch, self.up.out_channels, side, self.target)
        for first, end in self._strips(batch, side, _TALL_STRIP):
            tall = self.up.convolve(x[:, :, first // 2 : end // 2 + 2])
            blur_layer(tall, middle[:, :, first + 1 : end + 1], first, epilogue, self.up.taps)
            # Release the memory, which on a GPU is that of a whole layer.
            del tall
        following = None if after is None else after.style(latents[:, 2])
        epilogue = self.flat.epilogue(flat_style, following)
        projection = self.to_rgb.projection(latents[:, 2], image)
        larger = image.new_empty((batch, 3, side, side))
        y = None if after is None else _buffer(batch, self.flat.out_channels, side, self.target)
        filters = self.flat.filters
        if filters is not None and side >= _WHOLE:
            rows = None if y is None else y[:, :, 1:-1]
            to_rgb_convolution(middle, filters, rows, larger, epilogue, projection)
            return x if y is None else y, larger
        for first, end in self._strips(batch, side, _STRIP):
            flat = self.flat.convolve(middle[:, :, first : end + 2])
            rows = None if y is None else y[:, :, first + 1 : end + 1]
            to_rgb_layer(flat, rows, larger, first, epilogue, projection)
        return x if y is None else y, larger

    def _strips(self, batch: int, side: int, limit: int) -> Iterator[tuple[int, int]]:
        """First and one-past-last row of each strip."""
        # Strips of several images are not contiguous, which convolutions need.
        rows = side if batch > 1 else self._rows(side, limit)
        for first in range(0, side, rows):
            yield first, min(first + rows, side)

    def _rows(self, side: int, limit: int) -> int:
        """Even number of rows of one image that need at most ``limit`` bytes."""
        if self.target.device.type != "cpu":
            return side
        row = side * self.flat.out_channels * self.target.dtype.itemsize
        return max(2, min(side, limit // row // 2 * 2))


def _buffer(batch: int, channels: int, side: int, target: Target) -> Tensor:
    """Empty activations [B, C, side + 2, side], channels last, with zeros in the border rows."""
    shape, dtype = (batch, channels, side + 2, side), target.dtype
    buffer = torch.empty(
        shape, dtype=dtype, device=target.device, memory_format=torch.channels_last
    )
    # One kernel launch for both rows.
    buffer[:, :, :: side + 1] = 0
    return buffer


def _put(tensor: Tensor, target: Target) -> Tensor:
    """A contiguous float32 copy on the target's device."""
    tensor = tensor.detach().to(target.device, torch.float32, copy=True)
    return tensor.contiguous()


def _linear(layer: EqualizedLinear, target: Target) -> tuple[Tensor, Tensor]:
    """Weight [in, out] and bias, scaled."""
    return _put(layer.weight.t() * layer.scale, target), _put(layer.bias * layer.lr, target)


def _affine(linear: tuple[Tensor, Tensor], latent: Tensor) -> Tensor:
    weight, bias = linear
    return torch.addmm(bias, latent, weight)


def _taps(kernel: Tensor | None, target: Target) -> tuple[Tensor, Tensor]:
    """Vertical and horizontal taps of a separable filter; zeros for None."""
    separated = None if kernel is None else _separated(kernel)
    vertical, horizontal = separated or (torch.zeros(4), torch.zeros(4))
    return vertical.to(target.device), horizontal.to(target.device)


def _separated(kernel: Tensor) -> tuple[Tensor, Tensor] | None:
    """Vertical and horizontal taps [4] of a filter; None if it is not separable."""
    kernel = kernel.detach().cpu().float()
    if tuple(kernel.shape) != (4, 4):
        return None
    row, column = divmod(int(kernel.abs().argmax()), 4)
    if not kernel[row, column]:
        return kernel[0].clone(), kernel[0].clone()
    vertical, horizontal = kernel[:, column] / kernel[row, column], kernel[row]
    product = torch.outer(vertical, horizontal)
    if not torch.allclose(product, kernel, rtol=0, atol=1e-6 * float(kernel.abs().max())):
        return None
    return vertical.contiguous(), horizontal.contiguous()
