"""Every CUDA kernel on the device, forward and gradient, against the definitions in float64."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from restyle.kernels import encoder_layers, operators, reference
from restyle.kernels.layers import (
    Epilogue,
    RGBProjection,
    blur_layer,
    reference_blur_layer,
    reference_to_rgb_layer,
    to_rgb_layer,
)

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3, torch.float64: 1e-10}
"""Largest error, relative to the largest value."""

GEOMETRIES = [
    (1, 1, (1, 1, 1, 1)),
    (2, 1, (2, 1, 2, 1)),
    (1, 2, (1, 1, 1, 1)),
    (1, 1, (-1, 2, 0, 3)),
    (2, 2, (0, 3, 2, 1)),
    (3, 2, (4, 4, 4, 4)),
]
SHAPES = [(1, 1, 5, 7), (2, 3, 8, 8), (3, 70, 9, 4), (2, 64, 33, 31), (1, 512, 16, 16)]
LAYERS = [
    *((1, 1, 1, 1), (2, 3, 4, 6), (3, 70, 5, 9), (2, 64, 32, 32), (1, 512, 8, 8)),
    *((2, 32, 65, 66), (2, 128, 7, 34), (1, 256, 3, 4)),
]
"""Batch, channels, rows, columns."""


def wide_of(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def there(parts: Any) -> Any:
    """A tensor, or a dataclass of tensors, on the device."""
    return _each(parts, lambda tensor: tensor.cuda())


def double(parts: Any) -> Any:
    return _each(parts, lambda tensor: tensor.detach().double())


def _each(parts: Any, change: Any) -> Any:
    if isinstance(parts, Tensor):
        return change(parts)
    named = {field.name: getattr(parts, field.name) for field in fields(parts)}
    return replace(parts, **{k: None if v is None else change(v) for k, v in named.items()})


def close(ours: Tensor, exact: Tensor, limit: float) -> None:
    assert ours.shape == exact.shape
    assert (ours.double().cpu() - exact).abs().max() <= limit * exact.abs().max() + 1e-30


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_operators_of_training(
    dtype: torch.dtype, layout: torch.memory_format, shape: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(0)
    limit, wide = LIMITS[dtype], wide_of(dtype)
    batch, channels, height, width = shape
    x = torch.randn(shape).to(dtype).contiguous(memory_format=layout)
    fir = torch.randn(4, 4)
    for up, down, padding in GEOMETRIES:
        arguments: dict[str, Any] = {"up": up, "down": down, "padding": padding}
        near = there(x).requires_grad_()
        y = operators.upfirdn2d(near, fir.cuda(), impl="native", **arguments)
        wanted = double(x).requires_grad_()
        exact = reference.upfirdn2d(wanted, fir.double(), **arguments)
        close(y, exact, limit)
        towards = torch.randn(exact.shape).to(dtype)
        (ours,) = torch.autograd.grad(y, near, towards.cuda())
        (theirs,) = torch.autograd.grad(exact, wanted, towards.double())
        close(ours, theirs, limit)

    noise = torch.randn(1, 1, height, width, dtype=wide)
    vectors = [torch.rand(batch, channels) + 0.1, torch.randn(1), torch.randn(channels)]
    inputs = [x, *(vector.to(wide) for vector in vectors)]
    near = [there(part).requires_grad_() for part in inputs]
    far = [double(part).requires_grad_() for part in inputs]
    y = operators.noise_bias_act(near[0], near[1], noise.cuda(), near[2], near[3], impl="native")
    exact = reference.noise_bias_act(far[0], far[1], noise.double(), far[2], far[3])
    close(y, exact, limit)
    towards = torch.randn(shape).to(dtype)
    to_x, *to_vectors = torch.autograd.grad(y, near, towards.cuda())
    wanted_x, *wanted_vectors = torch.autograd.grad(exact, far, towards.double())
    close(to_x, wanted_x, limit)
    largest = max(1.0, float(x.detach().abs().max()), float(noise.abs().max()))
    for mine, theirs in zip(to_vectors, wanted_vectors, strict=True):
        error = (mine.double().cpu() - theirs).abs().max()
        assert error <= min(limit, 1e-5) * largest * towards.double().abs().sum()


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_layers_of_inference(
    dtype: torch.dtype, scaled: bool, shape: tuple[int, int, int, int]
) -> None:
    torch.manual_seed(1)
    batch, channels, rows, columns = shape
    limit, first, columns = LIMITS[dtype], 2, columns + columns % 2
    height = (first + rows + 3) // 2 * 2
    style = torch.randn(batch, channels) if scaled else None
    after = Epilogue(
        torch.rand(batch, channels) + 0.1, torch.randn(1, 1, height, columns), torch.randn(1),
        torch.randn(channels), style,
    )  # fmt: skip
    taps = (torch.randn(4), torch.randn(4))
    larger = torch.full((batch, channels, rows + 3, columns), 7.0, dtype=dtype, device="cuda")
    larger = larger.contiguous(memory_format=torch.channels_last)
    y = larger[:, :, 1:-2]
    x = torch.randn(batch, channels, rows + 5, columns + 1).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    blur_layer(there(x), y, first, there(after), (taps[0].cuda(), taps[1].cuda()))
    exact = reference_blur_layer(
        x.double(), first, double(after), (taps[0].double(), taps[1].double())
    )
    close(y, exact, limit)

    skip = torch.randn(batch, 3, height // 2, columns // 2) if scaled else None
    colour = RGBProjection(torch.randn(batch, 3, channels), torch.randn(3), *taps, skip)
    image = torch.zeros(batch, 3, height, columns, device="cuda")
    x = x[:, :, :rows, :columns].contiguous(memory_format=torch.channels_last)
    to_rgb_layer(there(x), y, image, first, there(after), there(colour))
    exact, colours = reference_to_rgb_layer(x.double(), first, double(after), double(colour))
    close(y, exact, limit)
    close(image[:, :, first : first + rows], colours, 1e-5)
    assert (larger[:, :, [0, -2, -1]] == 7).all()


@pytest.mark.parametrize("shape", LAYERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_layers_of_the_encoder(dtype: torch.dtype, shape: tuple[int, int, int, int]) -> None:
    torch.manual_seed(2)
    limit, channels = LIMITS[dtype], shape[1]
    last = torch.channels_last
    x = torch.randn(shape).to(dtype).contiguous(memory_format=last)
    bias, slope = torch.randn(channels), torch.rand(channels)
    edges = encoder_layers.edge_table(torch.randn(channels, 3, 3))
    for vector in (bias, edges):
        ours = encoder_layers.activate_(there(x), vector.cuda(), slope.cuda())
        wanted = encoder_layers.reference_activate(double(x), vector.double(), slope.double())
        close(ours, wanted, limit)
    down, up = torch.randn(2, 6, channels).unbind()
    factors = encoder_layers.excitation(there(x), bias.cuda(), down.cuda(), up.cuda())
    parts = (double(part) for part in (x, bias, down, up))
    close(factors, encoder_layers.reference_excitation(*parts), max(limit / 100, 1e-5))
    larger = torch.randn(*shape[:2], 2 * shape[2], 2 * shape[3]).to(dtype)
    shortcut = larger.contiguous(memory_format=last)[:, :, ::2, ::2]
    near = there(larger.contiguous(memory_format=last))[:, :, ::2, ::2]
    ours = encoder_layers.add_shortcut_(there(x), near, bias.cuda(), bias.cuda(), factors)
    wanted = encoder_layers.reference_add_shortcut(
        double(x), double(shortcut), bias.double(), bias.double(), factors.double().cpu(), False
    )
    close(ours, wanted, limit)
