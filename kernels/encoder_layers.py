"""Fused operators between the encoder's convolutions on a GPU, each one pass over activations.

They work in place on channels-last tensors, without gradients. CPUs use the plain definitions in
this module, because there the convolutions include most of these operations (see
:mod:`restyle.core.networks.convolution`).
"""

from __future__ import annotations

import torch
from torch import Tensor

from restyle.kernels import native

CHANNELS_LAST = torch.channels_last


def activate_(x: Tensor, bias: Tensor, slope: Tensor | None = None) -> Tensor:
    """Add a bias and apply a leaky ReLU, ``x = leaky(x + bias)``.

    Args:
        x: [B, C, H, W] channels last and contiguous, updated in place.
        bias: [C], or [4, 4, C] indexed by the position of a pixel's row and column (inside, first,
            last, both first and last); float32 (float64 if ``x`` is).
        slope: [C] of negative values; None for no activation.

    Returns:
        ``x``.
    """
    torch.ops.restyle.activate_(x, bias, slope)
    return x


def excitation(x: Tensor, bias: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Squeeze-and-excitation factors of ``x + bias`` (Hu et al., 1709.01507, section 3).

    All vectors are float32 (float64 if ``x`` is).

    Args:
        x: [B, C, H, W] channels last and contiguous.
        bias: [C].
        down: [hidden, C] weight of the first layer.
        up: [hidden, C] transposed weight of the second layer.

    Returns:
        [B, C] ``sigmoid(relu(mean down^T) up)``.
    """
    factors: Tensor = torch.ops.restyle.excitation(x, bias, down, up)
    return factors


def add_shortcut_(
    x: Tensor,
    shortcut: Tensor,
    bias: Tensor,
    shortcut_bias: Tensor | None = None,
    factors: Tensor | None = None,
    *,
    cuts: bool = False,
) -> Tensor:
    """End of a residual unit: ``x = (x + bias) * factors + shortcut + shortcut_bias``.

    All vectors are float32 (float64 if ``x`` is).

    Args:
        x: [B, C, H, W] channels last and contiguous, updated in place.
        shortcut: [B, C, H, W] of the same dtype with contiguous channels; may be a strided view.
        bias: [C].
        shortcut_bias: [C]; None for none.
        factors: [B, C] of squeeze-and-excitation; None for none.
        cuts: apply a ReLU.

    Returns:
        ``x``.
    """
    torch.ops.restyle.add_shortcut_(x, shortcut, bias, shortcut_bias, factors, cuts)
    return x


def edge_table(taps: Tensor) -> Tensor:
    """Table of biases by pixel position for :func:`activate_`, from biases of single taps.

    Args:
        taps: [C, 3, 3], bias of each tap of a 3x3 convolution with padding 1.

    Returns:
        [4, 4, C]: sum over the taps outside of the padding.
    """
    met = [slice(0, 3), slice(1, 3), slice(0, 2), slice(1, 2)]
    rows = [[taps[:, down, across].sum(dim=(1, 2)) for across in met] for down in met]
    return torch.stack([torch.stack(row) for row in rows])


def reference_activate(x: Tensor, bias: Tensor, slope: Tensor | None) -> Tensor:
    """Plain definition of :func:`activate_`."""
    wide = x.to(bias.dtype)
    if bias.ndim == 3:
        rows, columns = (_edges(size, x.device) for size in x.shape[2:])
        wide = wide + bias[rows[:, None], columns[None]].permute(2, 0, 1)
    else:
        wide = wide + bias[:, None, None]
    if slope is not None:
        wide = torch.where(wide > 0, wide, wide * slope[:, None, None])
    return wide.to(x.dtype)


def reference_excitation(x: Tensor, bias: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Plain definition of :func:`excitation`."""
    mean = x.to(bias.dtype).mean(dim=(2, 3)) + bias
    return torch.sigmoid(torch.relu(mean @ down.t()) @ up)


def reference_add_shortcut(
    x: Tensor,
    shortcut: Tensor,
    bias: Tensor,
    shortcut_bias: Tensor | None,
    factors: Tensor | None,
    cuts: bool,
) -> Tensor:
    """Plain definition of :func:`add_shortcut_`."""
    wide = x.to(bias.dtype) + bias[:, None, None]
    if factors is not None:
        wide = wide * factors[:, :, None, None]
    wide = wide + shortcut.to(bias.dtype)
    if shortcut_bias is not None:
        wide = wide + shortcut_bias[:, None, None]
    return (wide.relu() if cuts else wide).to(x.dtype)


def _edges(size: int, device: torch.device) -> Tensor:
    """Position code of each index, [size]: 0 inside, 1 first, 2 last, 3 both."""
    edges = torch.zeros(size, dtype=torch.int64, device=device)
    edges[0] += 1
    edges[-1] += 2
    return edges


# --- as torch operators ------------------------------------------------------------------------

torch.library.define("restyle::activate_", "(Tensor(a!) x, Tensor bias, Tensor? slope) -> ()")
torch.library.define(
    "restyle::excitation", "(Tensor x, Tensor bias, Tensor down, Tensor up) -> Tensor"
)
torch.library.define(
    "restyle::add_shortcut_",
    "(Tensor(a!) x, Tensor shortcut, Tensor bias, Tensor? shortcut_bias, Tensor? factors, "
    "bool cuts) -> ()",
)


@torch.library.impl("restyle::activate_", ("CPU", "CUDA"))
def _activate(x: Tensor, bias: Tensor, slope: Tensor | None) -> None:
    library = _library_for(x)
    if library is None:
        x.copy_(reference_activate(x, bias, slope))
        return
    batch, channels, rows, columns = x.shape
    arguments = native.Activation(
        dtype=native.code_of(x.dtype),
        edges=bias.ndim == 3,
        x=x.data_ptr(),
        bias=bias.data_ptr(),
        slope=_address(slope),
        batch=batch,
        channels=channels,
        rows=rows,
        columns=columns,
    )
    library.call("restyle_activation", arguments, x.device)


@torch.library.impl("restyle::excitation", ("CPU", "CUDA"))
def _excitation(x: Tensor, bias: Tensor, down: Tensor, up: Tensor) -> Tensor:
    library = _library_for(x)
    if library is None:
        return reference_excitation(x, bias, down, up)
    batch, channels, rows, columns = x.shape
    factors = bias.new_empty((batch, channels))
    scratch = bias.new_empty((batch, native.PARTS, channels))
    arguments = native.Excitation(
        dtype=native.code_of(x.dtype),
        x=x.data_ptr(),
        bias=bias.data_ptr(),
        down=down.data_ptr(),
        up=up.data_ptr(),
        y=factors.data_ptr(),
        scratch=scratch.data_ptr(),
        batch=batch,
        channels=channels,
        pixels=rows * columns,
        hidden=len(down),
    )
    library.call("restyle_excitation", arguments, x.device)
    return factors


def _excitation_shape(x: Tensor, bias: Tensor, down: Tensor, up: Tensor) -> Tensor:
    del down, up
    return bias.new_empty((x.shape[0], x.shape[1]))


@torch.library.impl("restyle::add_shortcut_", ("CPU", "CUDA"))
def _add_shortcut(
    x: Tensor,
    shortcut: Tensor,
    bias: Tensor,
    shortcut_bias: Tensor | None,
    factors: Tensor | None,
    cuts: bool,
) -> None:
    library = _library_for(x)
    if library is None:
        x.copy_(reference_add_shortcut(x, shortcut, bias, shortcut_bias, factors, cuts))
        return
    batch, channels, rows, columns = x.shape
    if channels > 1 and shortcut.stride(1) != 1:
        shortcut = shortcut.contiguous(memory_format=CHANNELS_LAST)
    arguments = native.Residual(
        dtype=native.code_of(x.dtype),
        cuts=cuts,
        x=x.data_ptr(),
        shortcut=shortcut.data_ptr(),
        bias=bias.data_ptr(),
        shortcut_bias=_address(shortcut_bias),
        excitation=_address(factors),
        batch=batch,
        channels=channels,
        rows=rows,
        columns=columns,
        image_stride=shortcut.stride(0),
        row_stride=shortcut.stride(2),
        column_stride=shortcut.stride(3),
    )
    library.call("restyle_residual", arguments, x.device)


def _writes_only(*arguments: object) -> None:
    """The shape function of operators that return nothing."""


torch.library.register_fake("restyle::excitation", _excitation_shape)
for _name in ("activate_", "add_shortcut_"):
    torch.library.register_fake(f"restyle::{_name}", _writes_only)


def _library_for(x: Tensor) -> native.Library | None:
    """The compiled library if ``x`` is on a GPU, else None."""
    library = native.library_for(x, "auto")
    return library if library is None or library.on_device else None


def _address(vector: Tensor | None) -> int | None:
    return None if vector is None else vector.data_ptr()
