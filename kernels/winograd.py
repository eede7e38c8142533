"""Winograd convolutions: 3x3 convolutions with fewer multiplications, for inference.

Winograd's minimal filtering, as used by Lavin and Gray in "Fast Algorithms for Convolutional Neural
Networks" (CVPR 2016, section 4): with tiles d of the input and filters g,

    ``Y = A^T [(G g G^T) * (B^T d B)] A``

F(2x2, 3x3) computes 2x2 outputs with 16 multiplications instead of 36. The transposed convolution
that doubles the size consists of four filters of 2x2, 2x1, 1x2 and 1x1 taps; F(2x2, 2x2) and
similar algorithms compute 4x4 outputs with 25 multiplications instead of 36. This module transforms
the filters once; ``csrc/winograd.h`` has the rest.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from restyle.kernels import native
from restyle.kernels.choice import Impl
from restyle.kernels.errors import KernelError

_PLAIN = ((1.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0.0, 0.0, 1.0))
"""G of the paper's equation 8."""

_DOUBLING = ((0.0, 0.0, 1.0), (1.0, 0.0, 1.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 1.0, 0.0))
"""G of four outputs in a row: the first and third use the outer taps, the others the middle one."""

# Channels per vector register, and numbers of outputs computed together, fastest first.
_LANES = 16
_PANELS = (64, 32)


@dataclass(frozen=True, eq=False)
class Filters:
    """A convolution's weight, transformed and rounded.

    Attributes:
        packed: in the layout of csrc/interface.h.
        out_channels: of the convolution.
        doubles: whether it is a transposed convolution.
    """

    packed: Tensor
    out_channels: int
    doubles: bool


def transform(
    weight: Tensor, dtype: torch.dtype, impl: Impl = "auto", *, doubles: bool = False
) -> Filters | None:
    """Transform a weight.

    Args:
        weight: [out, in, k, k].
        dtype: of activations.
        impl: see :data:`restyle.kernels.choice.Impl`.
        doubles: for the transposed convolution with stride 2 and without padding.

    Returns:
        None if :func:`convolve` does not support the weight or is not faster than torch.
    """
    out, into = weight.shape[:2]
    panel = next((width for width in _PANELS if out % width == 0), None)
    if panel is None or into % _LANES or weight.shape[2:] != (3, 3) or not _pays(dtype, impl):
        return None
    # A wider type than ``dtype``, because products are rounded once.
    wide = torch.float32 if dtype == torch.bfloat16 else torch.float64
    matrix = torch.tensor(_DOUBLING if doubles else _PLAIN, dtype=wide)
    exact = weight.detach().to("cpu", wide)
    products = torch.einsum("ak,oikl,bl->aboi", matrix, exact, matrix).to(dtype).flatten(0, 1)
    together = 4 // dtype.itemsize
    packed = products.reshape(-1, out // panel, panel, into // together, together)
    return Filters(packed.permute(1, 0, 3, 2, 4).contiguous(), out, doubles)


def convolve(
    x: Tensor,
    filters: Filters,
    *,
    above: int = 1,
    bias: Tensor | None = None,
    slope: Tensor | None = None,
    padding: Tensor | None = None,
) -> Tensor:
    """A 3x3 convolution and a leaky ReLU.

    Args:
        x: [B, in, H, W] in the filters' dtype, preferably channels_last; images need not be
            contiguous.
        filters: from :func:`transform`.
        above: rows of padding above and below, 1 or 0; there is one column of padding to the left
            and right. Ignored for a transposed convolution.
        bias: [out] float32.
        slope: [out] float32 of the leaky ReLU; None for none.
        padding: [in] float32 values of the padding; None for zeros.

    Returns:
        [B, out, H - 2 + 2 * above, W], or [B, out, 2 * H + 1, 2 * W + 1] for a transposed
        convolution; channels last.
    """
    y: Tensor = torch.ops.restyle.winograd(
        x, filters.packed, bias, slope, padding, filters.out_channels, above, filters.doubles
    )
    return y


def _pays(dtype: torch.dtype, impl: Impl) -> bool:
    """Whether compiled operators support the dtype and are faster than torch's."""
    # With matrix units (AMX) the transforms take longer than the multiplications they save.
    if dtype == torch.bfloat16 and torch.cpu._is_amx_tile_supported():
        return False
    library = native.library("cpu", impl) if dtype in (torch.float32, torch.bfloat16) else None
    return library is not None and _computes(library, dtype)


@functools.cache
def _computes(library: native.Library, dtype: torch.dtype) -> bool:
    """Whether the library was compiled for a processor with the needed instructions."""
    # A call with zero images.
    nothing = native.Winograd(dtype=native.code_of(dtype), panel=_PANELS[0], in_=_LANES)
    try:
        library.call("restyle_winograd", nothing, torch.device("cpu"))
    except KernelError:
        return False
    return True


def compiled() -> native.Library:
    """The library of the CPU, which exists if there are filters."""
    library = native.library("cpu", "native")
    assert library is not None  # noqa: S101 - there are no filters without it
    return library


def arguments(
    x: Tensor, packed: Tensor, out: int, size: tuple[int, int], above: int
) -> native.Winograd:
    """Arguments of a call without the optional ones and the output.

    Args:
        x: [B, in, H, W] channels last; images need not be contiguous.
        packed: see :class:`Filters`.
        out: channels of the result.
        size: height and width of the result.
        above: see :func:`convolve`.
    """
    batch, into, rows, columns = x.shape
    return native.Winograd(
        dtype=native.code_of(x.dtype),
        x=x.data_ptr(),
        weight=packed.data_ptr(),
        batch=batch,
        in_=into,
        out=out,
        panel=packed.shape[3],
        rows=rows,
        columns=columns,
        y_rows=size[0],
        y_columns=size[1],
        above=above,
        x_stride=x.stride(0),
    )


# --- as a torch operator -----------------------------------------------------------------------

torch.library.define(
    "restyle::winograd",
    "(Tensor x, Tensor packed, Tensor? bias, Tensor? slope, Tensor? padding, "
    "int out, int above, bool doubles) -> Tensor",
)


@torch.library.impl("restyle::winograd", "CPU")
def _winograd(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    padding: Tensor | None,
    out: int,
    above: int,
    doubles: bool,
) -> Tensor:
    into, columns = x.shape[1], x.shape[3]
    if x.stride()[1:] != (1, columns * into, into):
        x = x.contiguous(memory_format=torch.channels_last)
    y = _winograd_shape(x, packed, bias, slope, padding, out, above, doubles)
    call = arguments(x, packed, out, (y.shape[2], y.shape[3]), 1 if doubles else above)
    call.doubles, call.y = doubles, y.data_ptr()
    call.bias = None if bias is None else bias.data_ptr()
    call.slope = None if slope is None else slope.data_ptr()
    call.padding = None if padding is None else padding.data_ptr()
    compiled().call("restyle_winograd", call, x.device)
    return y


def _winograd_shape(
    x: Tensor,
    packed: Tensor,
    bias: Tensor | None,
    slope: Tensor | None,
    padding: Tensor | None,
    out: int,
    above: int,
    doubles: bool,
) -> Tensor:
    del packed, bias, slope, padding
    batch, _, rows, columns = x.shape
    size = (2 * rows + 1, 2 * columns + 1) if doubles else (rows - 2 + 2 * above, columns)
    return torch.empty(
        (batch, out, *size), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )


torch.library.register_fake("restyle::winograd", _winograd_shape)
