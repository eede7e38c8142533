"""What follows the generator's convolutions in inference, each in one pass over the activations.

These operators write into buffers of their callers, a few rows at a time, and have no gradients;
:mod:`restyle.core.inference.synthesis` is built of them. Their plain definitions are here, too:
they are
compositions of :mod:`restyle.kernels.reference`, and what runs where there is no compiler.
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
    """What becomes of a convolution's output; float32, contiguous (float64 if that is).

    Attributes:
        demodulation: [B, C] factors.
        noise: [1, 1, H, W] of the whole layer.
        strength: [1] of the noise.
        bias: [C].
        style: [B, C] of the convolution that comes next, None for none.
    """

    demodulation: Tensor
    noise: Tensor
    strength: Tensor
    bias: Tensor
    style: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Colour:
    """The projection to colour, and the image that it is added to.

    Attributes:
        weight: [B, 3, C] modulated.
        bias: [3].
        vertical: [4] taps for enlarging ``skip``, gain 2 included.
        horizontal: [4] of the other axis.
        skip: [B, 3, H / 2, W / 2], None at the lowest resolution.
    """

    weight: Tensor
    bias: Tensor
    vertical: Tensor
    horizontal: Tensor
    skip: Tensor | None = None


def blur_layer(
    x: Tensor, y: Tensor, first: int, epilogue: Epilogue, taps: tuple[Tensor, Tensor]
) -> None:
    """Smooth some rows of a transposed convolution and do what follows it.

    Args:
        x: [B, C, rows + 5, W + 1] channels last and contiguous; row r of the output sees its rows
            r + 1 to r + 4.
        y: [B, C, rows, W], written; rows of a channels-last tensor.
        first: where in the layer its rows begin.
        epilogue: of the layer.
        taps: [4] vertically and [4] horizontally; their product has the gain 4.
    """
    e = epilogue
    torch.ops.restyle.blur_layer(
        x, y, e.demodulation, e.noise, e.strength, e.bias, e.style, *taps, first
    )


def colour_layer(
    x: Tensor, y: Tensor | None, image: Tensor, first: int, epilogue: Epilogue, colour: Colour
) -> None:
    """Do what follows a convolution for some rows, and add their colour to the image.

    Args:
        x: [B, C, rows, W] channels last and contiguous.
        y: the same shape, written; rows of a channels-last tensor. None where it is not needed.
        image: [B, 3, H, W] contiguous float32, its rows from ``first`` on are written.
        first: where in the layer the rows begin.
        epilogue: of the layer.
        colour: what goes into the image.
    """
    e, c = epilogue, colour
    vectors = (e.demodulation, e.noise, e.strength, e.bias, e.style)
    torch.ops.restyle.colour_layer(
        x, y, image, *vectors, c.weight, c.bias, c.vertical, c.horizontal, c.skip, first
    )


def colour_convolution(
    x: Tensor, filters: Filters, y: Tensor | None, image: Tensor, epilogue: Epilogue, colour: Colour
) -> None:
    """A whole layer: convolve and do what :func:`colour_layer` does, without storing the former.

    Args:
        x: [B, in, H + 2, W] channels last; the first and the last row are zero.
        filters: of the convolution, which does not double.
        y: [B, C, H, W], written; rows of a channels-last tensor. None where it is not needed.
        image: [B, 3, H, W] contiguous float32, written.
        epilogue: of the layer.
        colour: what goes into the image.
    """
    e, c = epilogue, colour
    vectors = (e.demodulation, e.noise, e.strength, e.bias, e.style)
    torch.ops.restyle.colour_convolution(
        x, filters.packed, y, image, *vectors, c.weight, c.bias, c.vertical, c.horizontal, c.skip
    )


def reference_blur_layer(
    x: Tensor, first: int, epilogue: Epilogue, taps: tuple[Tensor, Tensor]
) -> Tensor:
    """The rows that :func:`blur_layer` writes."""
    wide = x.to(epilogue.bias.dtype)
    # Its first row belongs to none of these; beyond the last column are zeros.
    smooth = reference.upfirdn2d(wide[:, :, 1:-1], torch.outer(*taps), padding=(1, 1, 0, 0))
    return _styled(smooth, first, epilogue).to(x.dtype)


def reference_colour_layer(
    x: Tensor, first: int, epilogue: Epilogue, colour: Colour
) -> tuple[Tensor, Tensor]:
    """The rows of ``y`` and of the image that :func:`colour_layer` writes."""
    wide, rows = x.to(epilogue.bias.dtype), slice(first, first + x.shape[2])
    plain = _styled(wide, first, replace(epilogue, style=None))
    image = torch.einsum("bchw,bkc->bkhw", plain, colour.weight) + colour.bias[:, None, None]
    if colour.skip is not None:
        fir = torch.outer(colour.vertical, colour.horizontal)
        image = image + reference.upsample2d(colour.skip, fir)[:, :, rows]
    return _styled(wide, first, epilogue).to(x.dtype), image


def _styled(x: Tensor, first: int, epilogue: Epilogue) -> Tensor:
    noise = epilogue.noise[:, :, first : first + x.shape[2]]
    y = reference.noise_bias_act(x, epilogue.demodulation, noise, epilogue.strength, epilogue.bias)
    return y if epilogue.style is None else y * epilogue.style[:, :, None, None]


# --- as torch operators ------------------------------------------------------------------------

_VECTORS = "Tensor demodulation, Tensor noise, Tensor strength, Tensor bias, Tensor? style"
_TAPS = "Tensor vertical, Tensor horizontal"

# Not by torch's decorator: it costs several times what the calls themselves do.
torch.library.define(
    "restyle::blur_layer", f"(Tensor x, Tensor(a!) y, {_VECTORS}, {_TAPS}, int first) -> ()"
)
_IMAGE = f"Tensor weight, Tensor colour_bias, {_TAPS}, Tensor? skip"
torch.library.define(
    "restyle::colour_layer",
    f"(Tensor x, Tensor(a!)? y, Tensor(b!) image, {_VECTORS}, {_IMAGE}, int first) -> ()",
)
torch.library.define(
    "restyle::colour_convolution",
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


@torch.library.impl("restyle::colour_layer", ("CPU", "CUDA"))
def _colour_layer(
    x: Tensor,
    y: Tensor | None,
    image: Tensor,
    demodulation: Tensor,
    noise: Tensor,
    strength: Tensor,
    bias: Tensor,
    style: Tensor | None,
    weight: Tensor,
    colour_bias: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    skip: Tensor | None,
    first: int,
) -> None:
    epilogue = Epilogue(demodulation, noise, strength, bias, style)
    colour = Colour(weight, colour_bias, vertical, horizontal, skip)
    library = native.library_for(x, "auto")
    if library is None:
        rows, colours = reference_colour_layer(x, first, epilogue, colour)
        image[:, :, first : first + x.shape[2]] = colours
        if y is not None:
            y.copy_(rows)
        return
    arguments = _colour_arguments(_arguments(x, y, first, epilogue, x.shape[3]), image, colour)
    library.call("restyle_colour_layer", arguments, x.device)


@torch.library.impl("restyle::colour_convolution", "CPU")
def _colour_convolution(
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
    colour_bias: Tensor,
    vertical: Tensor,
    horizontal: Tensor,
    skip: Tensor | None,
) -> None:
    epilogue = Epilogue(demodulation, noise, strength, bias, style)
    colour = Colour(weight, colour_bias, vertical, horizontal, skip)
    channels, (height, columns) = demodulation.shape[1], image.shape[2:]
    layer = _arguments(x, y, 0, epilogue, columns)
    layer.channels, layer.rows = channels, height
    convolution = winograd.arguments(x, packed, channels, (height, columns), above=0)
    arguments = native.ColourConvolution(
        convolution=convolution, colour=_colour_arguments(layer, image, colour)
    )
    winograd.compiled().call("restyle_colour_convolution", arguments, x.device)


def _writes_only(*arguments: object) -> None:
    """The shape function of operators that return nothing."""


for _name in ("blur_layer", "colour_layer", "colour_convolution"):
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


def _colour_arguments(layer: native.Layer, image: Tensor, colour: Colour) -> native.ColourLayer:
    return native.ColourLayer(
        layer=layer,
        weight=colour.weight.data_ptr(),
        colour_bias=colour.bias.data_ptr(),
        skip=None if colour.skip is None else colour.skip.data_ptr(),
        vertical=colour.vertical.data_ptr(),
        horizontal=colour.horizontal.data_ptr(),
        image=image.data_ptr(),
        height=image.shape[2],
    )
