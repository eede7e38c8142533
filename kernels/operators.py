"""The generator's operators as torch custom operators, compiled where possible.

They have shape functions for ``torch.compile`` and ``torch.export``, and gradients of every order.
The implementation is chosen at run time, so that an exported graph also works on machines without a
compiler. :mod:`restyle.kernels.reference` defines the operators.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from restyle.kernels import choice, native, reference
from restyle.kernels.choice import Impl


def upfirdn2d(
    x: Tensor,
    fir: Tensor,
    *,
    up: int = 1,
    down: int = 1,
    padding: Sequence[int] = (0, 0, 0, 0),
    impl: Impl = "auto",
) -> Tensor:
    """See :func:`restyle.kernels.reference.upfirdn2d`; differentiable in ``x``."""
    if choice.resolved(impl) == "reference":
        return reference.upfirdn2d(x, fir, up=up, down=down, padding=padding)
    y: Tensor = _upfirdn2d(x, fir, up, down, list(padding), impl)
    return y


def upsample2d(x: Tensor, fir: Tensor, *, impl: Impl = "auto") -> Tensor:
    """See :func:`restyle.kernels.reference.upsample2d`; differentiable in ``x``."""
    return upfirdn2d(x, fir, up=2, padding=(2, 1, 2, 1), impl=impl)


def modulated_upconv2d(
    x: Tensor, weight: Tensor, style: Tensor, fir: Tensor, *, impl: Impl = "auto"
) -> Tensor:
    """See :func:`restyle.kernels.reference.modulated_upconv2d`; differentiable in all but ``fir``.

    With a compiled filter, a transposed convolution and the filter run separately, which takes a
    quarter of the multiplications of the fused convolution.
    """
    if native.library_for(x, impl) is None:
        return reference.modulated_upconv2d(x, weight, style, fir)
    x = x * style.to(x.dtype)[:, :, None, None]
    tall = torch.nn.functional.conv_transpose2d(x, weight.to(x.dtype).transpose(0, 1), stride=2)
    return upfirdn2d(tall, fir, padding=(1, 1, 1, 1), impl=impl)


def noise_bias_act(
    x: Tensor,
    demodulation: Tensor,
    noise: Tensor,
    noise_weight: Tensor,
    bias: Tensor,
    *,
    impl: Impl = "auto",
) -> Tensor:
    """See :func:`restyle.kernels.reference.noise_bias_act`; differentiable in all but ``noise``."""
    if choice.resolved(impl) == "reference":
        return reference.noise_bias_act(x, demodulation, noise, noise_weight, bias)
    y: Tensor = _noise_bias_act(x, demodulation, noise, noise_weight, bias, impl)
    return y


# --- upfirdn2d ---------------------------------------------------------------------------------


@torch.library.custom_op("restyle::upfirdn2d", mutates_args=())
def _upfirdn2d(
    x: Tensor, fir: Tensor, up: int, down: int, padding: Sequence[int], impl: str
) -> Tensor:
    library = native.library_for(x, choice.resolved(impl))
    if library is None:
        return reference.upfirdn2d(x, fir, up=up, down=down, padding=padding)
    y: Tensor = _upfirdn2d_shape(x, fir, up, down, padding, impl)
    layout = _layout(x)
    x, fir = x.contiguous(memory_format=layout), _factors(fir, x)
    batch, channels, height, width = x.shape
    if layout == torch.contiguous_format:
        batch, channels = batch * channels, 1
    left, _, top, _ = padding
    arguments = native.Upfirdn(
        dtype=native.code_of(x.dtype),
        x=x.data_ptr(),
        y=y.data_ptr(),
        fir=fir.data_ptr(),
        batch=batch,
        channels=channels,
        vertical=native.Axis(height, y.shape[2], fir.shape[0], up, down, top),
        horizontal=native.Axis(width, y.shape[3], fir.shape[1], up, down, left),
    )
    library.call("restyle_upfirdn", arguments, x.device)
    return y


@_upfirdn2d.register_fake
def _upfirdn2d_shape(
    x: Tensor, fir: Tensor, up: int, down: int, padding: Sequence[int], impl: str
) -> Tensor:
    del impl
    batch, channels, height, width = x.shape
    left, right, top, bottom = padding
    rows = (height * up + top + bottom - fir.shape[0]) // down + 1
    columns = (width * up + left + right - fir.shape[1]) // down + 1
    return torch.empty(
        (batch, channels, rows, columns),
        dtype=x.dtype,
        device=x.device,
        memory_format=_layout(x),
    )


def _save_upfirdn2d(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, fir, ctx.up, ctx.down, ctx.padding, ctx.impl = inputs
    ctx.save_for_backward(fir)
    ctx.input_size, ctx.output_size = x.shape[2:], output.shape[2:]


def _upfirdn2d_backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    """The transposed operator: flipped filter, ``up`` and ``down`` exchanged."""
    (fir,) = ctx.saved_tensors
    padding = []
    # First left and right, then top and bottom.
    for axis, before in ((1, ctx.padding[0]), (0, ctx.padding[2])):
        taps, into, out = fir.shape[axis], ctx.input_size[axis], ctx.output_size[axis]
        opposite = taps - 1 - before
        padding += [opposite, (into - 1) * ctx.up + taps - out * ctx.down - opposite]
    turned = fir.flip(0, 1)
    x = _upfirdn2d(gradient, turned, ctx.down, ctx.up, padding, ctx.impl)
    return x, None, None, None, None, None


_upfirdn2d.register_autograd(_upfirdn2d_backward, setup_context=_save_upfirdn2d)


# --- noise_bias_act ----------------------------------------------------------------------------


@torch.library.custom_op("restyle::noise_bias_act", mutates_args=())
def _noise_bias_act(
    x: Tensor, demodulation: Tensor, noise: Tensor, noise_weight: Tensor, bias: Tensor, impl: str
) -> Tensor:
    library = native.library_for(x, choice.resolved(impl))
    if library is None:
        return reference.noise_bias_act(x, demodulation, noise, noise_weight, bias)
    layout = _layout(x)
    x = x.contiguous(memory_format=layout)
    y = torch.empty_like(x)
    factors = [_factors(part, x) for part in (demodulation, noise, noise_weight, bias)]
    arguments = _epilogue(x, factors, layout)
    arguments.y = y.data_ptr()
    library.call("restyle_epilogue", arguments, x.device)
    return y


@_noise_bias_act.register_fake
def _noise_bias_act_shape(
    x: Tensor, demodulation: Tensor, noise: Tensor, noise_weight: Tensor, bias: Tensor, impl: str
) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))


@torch.library.custom_op("restyle::noise_bias_act_backward", mutates_args=())
def _noise_bias_act_backward(
    gradient: Tensor,
    x: Tensor,
    demodulation: Tensor,
    noise: Tensor,
    noise_weight: Tensor,
    bias: Tensor,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    library = native.library_for(x, choice.resolved(impl))
    if library is None:
        return _reference_gradients(gradient, x, demodulation, noise, noise_weight, bias)
    layout = _layout(x)
    x = x.contiguous(memory_format=layout)
    gradient = gradient.to(x.dtype).contiguous(memory_format=layout)
    factors = [_factors(part, x) for part in (demodulation, noise, noise_weight, bias)]
    to_x = torch.empty_like(x)
    to_vectors = [torch.empty_like(factors[index]) for index in (0, 2, 3)]
    parts = 3 * len(x) * native.PARTS + 1
    scratch = torch.empty(parts * x.shape[1], dtype=factors[3].dtype, device=x.device)
    arguments = native.EpilogueGradient(
        forward=_epilogue(x, factors, layout),
        gradient=gradient.data_ptr(),
        x=to_x.data_ptr(),
        demodulation=to_vectors[0].data_ptr(),
        strength=to_vectors[1].data_ptr(),
        bias=to_vectors[2].data_ptr(),
        scratch=scratch.data_ptr(),
    )
    library.call("restyle_epilogue_gradient", arguments, x.device)
    return (
        to_x,
        to_vectors[0].to(demodulation.dtype),
        to_vectors[1].to(noise_weight.dtype),
        to_vectors[2].to(bias.dtype),
    )


@_noise_bias_act_backward.register_fake
def _noise_bias_act_backward_shape(
    gradient: Tensor,
    x: Tensor,
    demodulation: Tensor,
    noise: Tensor,
    noise_weight: Tensor,
    bias: Tensor,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    del gradient, noise, impl
    to_x = torch.empty(x.shape, dtype=x.dtype, device=x.device, memory_format=_layout(x))
    vectors = [torch.empty_like(part) for part in (demodulation, noise_weight, bias)]
    return to_x, vectors[0], vectors[1], vectors[2]


def _save_noise_bias_act(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    del output
    *tensors, ctx.impl = inputs
    ctx.save_for_backward(*tensors)


def _noise_bias_act_gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    # Gradients of gradients need differentiable formulas.
    backward = _reference_gradients if torch.is_grad_enabled() else _noise_bias_act_backward
    more = () if torch.is_grad_enabled() else (ctx.impl,)
    x, demodulation, noise_weight, bias = backward(gradient, *ctx.saved_tensors, *more)
    return x, demodulation, None, noise_weight, bias, None


_noise_bias_act.register_autograd(_noise_bias_act_gradient, setup_context=_save_noise_bias_act)


def _reference_gradients(
    gradient: Tensor,
    x: Tensor,
    demodulation: Tensor,
    noise: Tensor,
    noise_weight: Tensor,
    bias: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    wide = torch.promote_types(x.dtype, torch.float32)
    x_wide, scale = x.to(wide), demodulation.to(wide)[:, :, None, None]
    before = x_wide * scale + (noise_weight * noise + bias[:, None, None]).to(wide)
    slope = torch.where(before > 0, reference.GAIN, reference.GAIN * reference.NEGATIVE_SLOPE)
    inner = gradient.to(wide) * slope.detach()
    return (
        (inner * scale).to(x.dtype),
        (inner * x_wide).sum(dim=(2, 3)).to(demodulation.dtype),
        (inner * noise).sum().reshape(noise_weight.shape).to(noise_weight.dtype),
        inner.sum(dim=(0, 2, 3)).to(bias.dtype),
    )


# --- shared helpers ----------------------------------------------------------------------------


def _epilogue(x: Tensor, factors: Sequence[Tensor], layout: torch.memory_format) -> Any:
    """Arguments without the output; the caller must keep the tensors alive."""
    batch, channels, height, width = x.shape
    demodulation, noise, strength, bias = factors
    return native.Epilogue(
        dtype=native.code_of(x.dtype),
        channels_last=layout == torch.channels_last,
        noise_per_image=noise.shape[0] != 1,
        x=x.data_ptr(),
        demodulation=demodulation.data_ptr(),
        noise=noise.data_ptr(),
        strength=strength.data_ptr(),
        bias=bias.data_ptr(),
        batch=batch,
        channels=channels,
        pixels=height * width,
    )


def _factors(vector: Tensor, x: Tensor) -> Tensor:
    """A contiguous vector or filter in the arithmetic dtype for ``x``."""
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return vector.detach().to(wide).contiguous()


def _layout(x: Tensor) -> torch.memory_format:
    if x.is_contiguous() or not x.is_contiguous(memory_format=torch.channels_last):
        return torch.contiguous_format
    return torch.channels_last
