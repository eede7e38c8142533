"""The reference operators against their definitions, spelled out with zero insertion and loops."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from restyle.kernels import reference as ops
from tests.restyle_core import plain

shapes = st.tuples(
    st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)
)
"""Batch, input channels, output channels, height, width."""


def modulated_weights(weight: Tensor, style: Tensor) -> Tensor:
    """[B, out, in, k, k]."""
    return weight[None] * style[:, None, :, None, None]


def close(ours: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(shape=shapes, kernel=st.sampled_from([1, 3]))
def test_modulation_of_activations_is_that_of_weights(
    shape: tuple[int, int, int, int, int], kernel: int
) -> None:
    batch, into, out, height, width = shape
    x, weight = torch.randn(batch, into, height, width), torch.randn(out, into, kernel, kernel)
    style = torch.randn(batch, into)
    per_sample = modulated_weights(weight, style)
    factors = 1 / (per_sample.square().sum((2, 3, 4)) + 1e-8).sqrt()
    expected = [F.conv2d(x[i : i + 1], per_sample[i], padding=kernel // 2) for i in range(batch)]
    close(ops.modulated_conv2d(x, weight, style), torch.cat(expected))
    torch.testing.assert_close(ops.demodulation(weight, style), factors, atol=1e-6, rtol=1e-3)


@settings(max_examples=25, deadline=None)
@given(shape=shapes)
def test_folded_upsampling_is_a_transposed_convolution_and_a_blur(
    shape: tuple[int, int, int, int, int],
) -> None:
    batch, into, out, height, width = shape
    x, weight = torch.randn(batch, into, height, width), torch.randn(out, into, 3, 3)
    style = torch.randn(batch, into)
    expected = []
    for i in range(batch):
        kernels = modulated_weights(weight, style)[i].transpose(0, 1)
        tall = F.conv_transpose2d(x[i : i + 1], kernels, stride=2)
        expected.append(plain.filter_image(tall, plain.smoothing(), 1, 1))
    ours = ops.modulated_upconv2d(x, weight, style, plain.smoothing())
    assert ours.shape == (batch, out, 2 * height, 2 * width)
    close(ours, torch.cat(expected))


def test_folding_holds_for_a_filter_without_symmetry() -> None:
    x, weight, fir = torch.randn(1, 2, 5, 4), torch.randn(3, 2, 3, 3), torch.rand(4, 4)
    tall = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    expected = plain.filter_image(tall, fir, 1, 1)
    close(ops.modulated_upconv2d(x, weight, torch.ones(1, 2), fir), expected)


@settings(max_examples=25, deadline=None)
@given(shape=shapes)
def test_upsampling_inserts_zeros_and_filters(shape: tuple[int, int, int, int, int]) -> None:
    batch, channels, _, height, width = shape
    x, fir = torch.randn(batch, channels, height, width), torch.rand(4, 4)
    close(ops.upsample2d(x, fir), plain.filter_image(plain.zero_insert(x), fir, 2, 1))


@settings(max_examples=25, deadline=None)
@given(shape=shapes, own_noise=st.booleans())
def test_epilogue(shape: tuple[int, int, int, int, int], own_noise: bool) -> None:
    batch, channels, _, height, width = shape
    x, factors = torch.randn(batch, channels, height, width), torch.rand(batch, channels)
    noise = torch.randn(batch if own_noise else 1, 1, height, width)
    strength, bias = torch.randn(1), torch.randn(channels)
    y = x * factors[:, :, None, None] + strength * noise + bias[None, :, None, None]
    expected = 2**0.5 * torch.where(y > 0, y, 0.2 * y)
    close(ops.noise_bias_act(x.clone(), factors, noise, strength, bias), expected)


@settings(max_examples=25, deadline=None)
@given(shape=shapes)
def test_to_rgb_is_modulated_and_not_demodulated(shape: tuple[int, int, int, int, int]) -> None:
    batch, into, _, height, width = shape
    x, style = torch.randn(batch, into, height, width), torch.randn(batch, into)
    weight, bias = torch.randn(3, into), torch.randn(3)
    expected = torch.einsum("bchw,oc,bc->bohw", x, weight, style) + bias[None, :, None, None]
    for layout in (torch.contiguous_format, torch.channels_last):
        close(ops.modulated_rgb(x.contiguous(memory_format=layout), weight, style, bias), expected)


def test_gradients_in_double_precision() -> None:
    def double(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    fir = plain.smoothing().double()
    x, weight = double(2, 2, 3, 3), double(2, 2, 3, 3)
    # Styles are float32 by design; their gradient is checked through the generator's test.
    style = torch.rand(2, 2, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, w: ops.modulated_conv2d(a, w, style), (x, weight))
    assert torch.autograd.gradcheck(
        lambda a, w: ops.modulated_upconv2d(a, w, style, fir), (x, weight)
    )
    assert torch.autograd.gradcheck(lambda a: ops.upsample2d(a, fir), (x,))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_the_projection_to_rgb(layout: torch.memory_format) -> None:
    def double(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    x, weight, style, bias = double(2, 4, 3, 2), double(3, 4), double(2, 4), double(3)

    def project(x: Tensor, weight: Tensor, style: Tensor, bias: Tensor) -> Tensor:
        return ops.modulated_rgb(x.contiguous(memory_format=layout), weight, style, bias)

    assert torch.autograd.gradcheck(project, (x, weight, style, bias))
    assert torch.autograd.gradgradcheck(project, (x, weight, style, bias))


def test_bf16_keeps_dtype_and_memory_format() -> None:
    x = torch.randn(2, 8, 6, 6).bfloat16().to(memory_format=torch.channels_last)
    weight, style = torch.randn(8, 8, 3, 3), torch.randn(2, 8)
    for y in (
        ops.modulated_conv2d(x, weight, style),
        ops.modulated_upconv2d(x, weight, style, plain.smoothing()),
    ):
        assert y.dtype == torch.bfloat16
        assert y.is_contiguous(memory_format=torch.channels_last)
