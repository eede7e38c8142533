"""Fused operators after the generator's convolutions, each one pass over activations.

They write rows into buffers of their caller and have no gradients; they are the parts of
:mod:`restyle.core.inference.synthesis`. Plain definitions in this module are composed of
:mod:`restyle.kernels.reference` and run where there is no compiler.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from restyle.kernels import native, reference, winograd
from restyle.kernels.winograd import Filters

CHANNELS_LAST = torch.channels_last


@dataclass(frozen=True, eq=False)
class Epilogue:
    """Parameters of the operations after a convolution; contiguous, float32 or float64.

    Attributes:
        demodulation: [B, C] factors.
        noise: [1, 1, H, W] of the whole layer.
        strength: [1] of the noise.
        bias: [C].
        style: [B, C] of the next convolution; None for none.
    """

    demodulation: Tensor
    noise: Tensor
    strength: Tensor
    bias: Tensor
    style: Tensor | None = None


@dataclass(frozen=True, eq=False)
class RGBProjection:
    """Parameters of the projection to RGB, which is added to an upsampled image.

    Attributes:
        weight: [B, 3, C] modulated.
        bias: [3].
        vertical: [4] taps for upsampling ``skip``, gain 2 included.
        horizontal: [4] taps of the other axis.
        skip: [B, 3, H / 2, W / 2]; None at the lowest resolution.
    """

    weight: Tensor
    bias: Tensor
    vertical: Tensor
    horizontal: Tensor
    skip: Tensor | None = None


def blur_layer(
    x: Tensor, y: Tensor, first: int, epilogue: Epilogue, taps: tuple[Tensor, Tensor]
) -> None:
    """Smooth rows of a transposed convolution's output and apply the epilogue.

    Args:
        x: [B, C, rows + 5, W + 1] channels last and contiguous; output row r depends on rows r + 1
            to r + 4.
        y: [B, C, rows, W], output; rows of a channels-last tensor.
        first: index of the first row in the layer.
        epilogue: of the layer.
        taps: [4] vertically and [4] horizontally; their product has the gain 4.
    """
    e = epilogue
    torch.ops.restyle.blur_layer(
        x, y, e.demodulation, e.noise, e.strength, e.bias, e.style, *taps, first
    )


def to_rgb_layer(
    x: Tensor,
    y: Tensor | None,
    image: Tensor,
    first: int,
    epilogue: Epilogue,
    projection: RGBProjection,
) -> None:
    """Apply the epilogue to rows of a convolution's output and write their RGB projection.

    Args:
        x: [B, C, rows, W] channels last and contiguous.
        y: output of the same shape, rows of a channels-last tensor; None if it is not needed.
        image: [B, 3, H, W] contiguous float32, whose rows from ``first`` on are written.
        first: index of the first row in the layer.
        epilogue: of the layer.
        projection: of the layer.
    """
    e, p = epilogue, projection
    vectors = (e.demodulation, e.noise, e.strength, e.bias, e.style)
    torch.ops.restyle.to_rgb_layer(
        x, y, image, *vectors, p.weight, p.bias, p.vertical, p.horizontal, p.skip, first
    )


def to_rgb_convolution(
    x: Tensor,
    filters: Filters,
    y: Tensor | None,
    image: Tensor,
    epilogue: Epilogue,
    projection: RGBProjection,
) -> None:
    """A whole layer: a convolution and :func:`to_rgb_layer`, without storing the former's output.

    Args:
        x: [B, in, H + 2, W] channels last; the first and the last row are zero.
        filters: of a convolution that does not double.
        y: [B, C, H, W], output, rows of a channels-last tensor; None if it is not needed.
        image: [B, 3, H, W] contiguous float32, output.
        epilogue: of the layer.
        projection: of the layer.
    """
    e, p = epilogue, projection
    vectors = (e.demodulation, e.noise, e.strength, e.bias, e.style)
    torch.ops.restyle.to_rgb_convolution(
        x, filters.packed, y, image, *vectors, p.weight, p.bias, p.vertical, p.horizontal, p.skip
    )


def reference_blur_layer(
    x: Tensor, first: int, epilogue: Epilogue, taps: tuple[Tensor, Tensor]
) -> Tensor:
    """Plain definition of :func:`blur_layer`; returns the rows."""
    wide = x.to(epilogue.bias.dtype)
    # The first and last rows are not used; columns beyond the last one are zero.
    smooth = reference.upfirdn2d(wide[:, :, 1:-1], torch.outer(*taps), padding=(1, 1, 0, 0))
    return _styled(smooth, first, epilogue).to(x.dtype)


def reference_to_rgb_layer(
    x: Tensor, first: int, epilogue: Epilogue, projection: RGBProjection
) -> tuple[Tensor, Tensor]:
    """Plain definition of :func:`to_rgb_layer`; returns the rows of ``y`` and of the image."""
    wide, rows = x.to(epilogue.bias.dtype), slice(first, first + x.shape[2])
    plain = _styled(wide, first, replace(epilogue, style=None))
    image = torch.einsum("bchw,bkc->bkhw", plain, projection.weight)
    image = image + projection.bias[:, None, None]
    if projection.skip is not None:
        fir = torch.outer(projection.vertical, projection.horizontal)
        image = image + reference.upsample2d(projection.skip, fir)[:, :, rows]
    return _styled(wide, first, epilogue).to(x.dtype), image


def _styled(x: Tensor, first: int, epilogue: Epilogue) -> Tensor:
    noise = epilogue.noise[:, :, first : first + x.shape[2]]
    y = reference.noise_bias_act(x, epilogue.demodulation, noise, epilogue.strength, epilogue.bias)
    return y if epilogue.style is None else y * epilogue.style[:, :, None, None]


# --- as torch operators ------------------------------------------------------------------------

_VECTORS = "Tensor demodulation, Tensor noise, Tensor strength, Tensor bias, Tensor? style"
_TAPS = "Tensor vertical, Tensor horizontal"

# torch's decorator has several times the overhead of the calls themselves.
torch.library.define(
    "restyle::blur_layer", f"(Tensor x, Tensor(a!) y, {_VECTORS}, {_TAPS}, int first) -> ()"
)
_IMAGE = f"Tensor weight, Tensor rgb_bias, {_TAPS}, Tensor? skip"
torch.library.define(
    "restyle::to_rgb_layer",
    f"(Tensor x, Tensor(a!)? y, Tensor(b!) image, {_VECTORS}, {_IMAGE}, int first) -> ()",
)
torch.library.define(
    "restyle::to_rgb_convolution",
    f"(Tensor x, Tensor packed, Tensor(a!)? y, Tensor(b!) image, {_VECTORS}, {_IMAGE}) -> ()",
)


@torch.library.impl("restyle::blur_layer", ("CPU", "CUDA"))
def _blur_layer(
    x: Tensor,
    y: Tensor,
    demodulation: Tensor,
    noise: Tensor,
    strength: Tensor,
    bias: Tensor,
    style: Tensor | None,
    vertical: Tensor,
    horizontal: Tensor,
    first: int,
) -> None:
    epilogue = Epilogue(demodulation, noise, strength, bias, style)
    library = native.library_for(x, "auto")
    if library is None:
        y.copy_(reference_blur_layer(x, first, epilogue, (vertical, horizontal)))
        return
    arguments = native.BlurLayer(
        layer=_arguments(x, y, first, epilogue, y.shape[3]),
        vertical=vertical.data_ptr(),
        horizontal=horizontal.data_ptr(),
    )
    arguments.layer.rows = y.shape[2]
    library.call("restyle_blur_layer", arguments, x.device)


@torch.library.impl("restyle::to_rgb_layer", ("CPU", "CUDA"))
def _to_rgb_layer(
    x: Tensor,
    y: Tensor | None,
    image: Tensor,
    demodulation: Tensor,
    noise: Tensor,
    strength: Tensor,
    bias: Tensor,
    style: Tensor | None,
    weight: Tensor,
    rgb_bias: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    skip: Tensor | None,
    first: int,
) -> None:
    epilogue = Epilogue(demodulation, noise, strength, bias, style)
    projection = RGBProjection(weight, rgb_bias, vertical, horizontal, skip)
    library = native.library_for(x, "auto")
    if library is None:
        rows, rgb = reference_to_rgb_layer(x, first, epilogue, projection)
        image[:, :, first : first + x.shape[2]] = rgb
        if y is not None:
            y.copy_(rows)
        return
    arguments = _to_rgb_arguments(_arguments(x, y, first, epilogue, x.shape[3]), image, projection)
    library.call("restyle_to_rgb_layer", arguments, x.device)


@torch.library.impl("restyle::to_rgb_convolution", "CPU")
def _to_rgb_convolution(
    x: Tensor,
    packed: Tensor,
    y: Tensor | None,
    image: Tensor,
    demodulation: Tensor,
    noise: Tensor,
    strength: Tensor,
    bias: Tensor,
    style: Tensor | None,
    weight: Tensor,
    rgb_bias: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    skip: Tensor | None,
) -> None:
    epilogue = Epilogue(demodulation, noise, strength, bias, style)
    projection = RGBProjection(weight, rgb_bias, vertical, horizontal, skip)
    channels, (height, columns) = demodulation.shape[1], image.shape[2:]
    layer = _arguments(x, y, 0, epilogue, columns)
    layer.channels, layer.rows = channels, height
    convolution = winograd.arguments(x, packed, channels, (height, columns), above=0)
    arguments = native.ToRGBConvolution(
        convolution=convolution, to_rgb=_to_rgb_arguments(layer, image, projection)
    )
    winograd.compiled().call("restyle_to_rgb_convolution", arguments, x.device)


def _writes_only(*arguments: object) -> None:
    """The shape function of operators that return nothing."""


for _name in ("blur_layer", "to_rgb_layer", "to_rgb_convolution"):
    torch.library.register_fake(f"restyle::{_name}", _writes_only)


def _arguments(
    x: Tensor, y: Tensor | None, first: int, epilogue: Epilogue, columns: int
) -> native.Layer:
    batch, channels, rows, _ = x.shape
    return native.Layer(
        dtype=native.code_of(x.dtype),
        x=x.data_ptr(),
        y=None if y is None else y.data_ptr(),
        demodulation=epilogue.demodulation.data_ptr(),
        noise=epilogue.noise.data_ptr(),
        strength=epilogue.strength.data_ptr(),
        bias=epilogue.bias.data_ptr(),
        style=None if epilogue.style is None else epilogue.style.data_ptr(),
        batch=batch,
        channels=channels,
        first=first,
        rows=rows,
        columns=columns,
        y_stride=0 if y is None else y.stride(0),
    )


def _to_rgb_arguments(
    layer: native.Layer, image: Tensor, projection: RGBProjection
) -> native.ToRGBLayer:
    return native.ToRGBLayer(
        layer=layer,
        weight=projection.weight.data_ptr(),
        rgb_bias=projection.bias.data_ptr(),
        skip=None if projection.skip is None else projection.skip.data_ptr(),
        vertical=projection.vertical.data_ptr(),
        horizontal=projection.horizontal.data_ptr(),
        image=image.data_ptr(),
        height=image.shape[2],
    )
