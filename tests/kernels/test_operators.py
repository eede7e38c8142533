"""The compiled operators against the plain ones, in double precision."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from restyle.kernels import choice, native, operators, reference
from restyle.kernels.errors import KernelError

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float64: 1e-12}
"""Largest error against float64, relative to the largest value."""

dtypes = st.sampled_from(sorted(LIMITS, key=str))
layouts = st.sampled_from(["planar", "channels_last", "transposed", "strided"])
shapes = st.tuples(
    *(st.integers(1, 3), st.sampled_from([1, 2, 3, 7, 16, 33]), st.integers(1, 9)),
    st.integers(1, 9),
)
"""Batch, channels, height, width."""


def tensor(shape: tuple[int, ...], dtype: torch.dtype, layout: str) -> Tensor:
    batch, channels, height, width = shape
    if layout == "channels_last":
        return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)
    if layout == "transposed":
        return torch.randn(batch, channels, width, height).to(dtype).transpose(2, 3)
    if layout == "strided":
        return torch.randn(batch, 2 * channels, height, width + 1).to(dtype)[:, ::2, :, 1:]
    return torch.randn(shape).to(dtype)


def close(ours: Tensor, exact: Tensor, limit: float) -> None:
    assert ours.shape == exact.shape
    assert (ours.double() - exact).abs().max() <= limit * exact.abs().max() + 1e-30


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=shapes,
    dtype=dtypes,
    layout=layouts,
    taps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    up=st.integers(1, 3),
    down=st.integers(1, 3),
    padding=st.tuples(*[st.integers(-1, 4)] * 4),
)
def test_upfirdn2d(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    layout: str,
    taps: tuple[int, int],
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
) -> None:
    left, right, top, bottom = padding
    # At least one whole filter has to fit.
    if shape[2] * up + top + bottom < taps[0] or shape[3] * up + left + right < taps[1]:
        padding = (4, 4, 4, 4)
    x, fir = tensor(shape, dtype, layout), torch.randn(taps)
    arguments = {"up": up, "down": down, "padding": padding}
    ours = operators.upfirdn2d(x, fir, impl="native", **arguments)
    exact = reference.upfirdn2d(x.double(), fir.double(), **arguments)
    scale = reference.upfirdn2d(x.double().abs(), fir.double().abs(), **arguments).max()
    assert ours.dtype == dtype
    assert (ours.double() - exact).abs().max() <= LIMITS[dtype] * scale + 1e-30


@settings(max_examples=40, deadline=None, derandomize=True)
@given(shape=shapes, dtype=dtypes, layout=layouts, own_noise=st.booleans())
def test_noise_bias_act_and_its_gradients(
    shape: tuple[int, int, int, int], dtype: torch.dtype, layout: str, own_noise: bool
) -> None:
    batch, channels, height, width = shape
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = tensor(shape, dtype, layout).requires_grad_()
    factors = torch.rand(batch, channels, dtype=wide, requires_grad=True)
    strength = torch.randn(1, dtype=wide, requires_grad=True)
    bias = torch.randn(channels, dtype=wide, requires_grad=True)
    noise = torch.randn(batch if own_noise else 1, 1, height, width, dtype=wide)
    inputs = [x, factors, strength, bias]
    doubles = [part.detach().double().requires_grad_() for part in inputs]
    ours = operators.noise_bias_act(x, factors, noise, strength, bias, impl="native")
    exact = reference.noise_bias_act(doubles[0], doubles[1], noise.double(), *doubles[2:])
    close(ours, exact, LIMITS[dtype])
    towards = torch.randn(shape).to(dtype)
    wanted = torch.autograd.grad(exact, doubles, towards.double())
    to_x, *to_vectors = torch.autograd.grad(ours, inputs, towards)
    close(to_x, wanted[0], LIMITS[dtype])
    # Sums over pixels may cancel, but not what is summed; they are made in float also of bf16.
    largest = max(1.0, float(x.detach().abs().max()), float(noise.abs().max()))
    for mine, theirs in zip(to_vectors, wanted[1:], strict=True):
        error = (mine.double() - theirs).abs().max()
        assert error <= min(LIMITS[dtype], 1e-5) * largest * towards.double().abs().sum()


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradients_of_first_and_second_order(layout: torch.memory_format) -> None:
    fir = torch.rand(4, 3, dtype=torch.float64)
    x = double(2, 2, 2, 3).detach().contiguous(memory_format=layout).requires_grad_()
    noise = torch.randn(1, 1, 2, 3, dtype=torch.float64)

    def filtered(x: Tensor) -> Tensor:
        return operators.upfirdn2d(x, fir, up=3, down=2, padding=(-1, 2, 3, 1), impl="native")

    def activated(x: Tensor, factors: Tensor, strength: Tensor, bias: Tensor) -> Tensor:
        return operators.noise_bias_act(x, factors, noise, strength, bias, impl="native")

    def enlarged(x: Tensor, weight: Tensor) -> Tensor:
        style = torch.ones(2, 2, dtype=torch.float64)
        return operators.modulated_upconv2d(x, weight, style, fir, impl="native")

    vectors = (double(2, 2), double(1), double(2))
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(filtered, x)
        assert check(activated, (x, *vectors))
    assert torch.autograd.gradcheck(enlarged, (x, double(2, 2, 3, 3)))


def test_not_a_number_stays_one_in_bf16() -> None:
    x = torch.tensor([float("nan"), float("inf"), -float("inf"), 3.0e38]).bfloat16()
    y = operators.upfirdn2d(x.view(1, 1, 1, 4), torch.ones(1, 1), impl="native").flatten()
    assert y[0].isnan()
    assert torch.equal(y[1:], x[1:])


def test_modulated_upconv2d_is_the_folded_one() -> None:
    x, weight = torch.randn(2, 5, 6, 7), torch.randn(4, 5, 3, 3)
    style, fir = torch.randn(2, 5), torch.rand(4, 4)
    folded = reference.modulated_upconv2d(x, weight, style, fir)
    ours = operators.modulated_upconv2d(x, weight, style, fir, impl="native")
    torch.testing.assert_close(ours, folded, atol=1e-4, rtol=1e-4)


def test_shape_functions_and_dispatch_hold() -> None:
    x, fir = torch.randn(2, 3, 4, 5, requires_grad=True), torch.rand(4, 4)
    vectors = (torch.rand(2, 3), torch.randn(1, 1, 4, 5), torch.rand(1), torch.rand(3))
    for layout in (torch.contiguous_format, torch.channels_last):
        laid = x.detach().contiguous(memory_format=layout).requires_grad_()
        tests = ("test_schema", "test_autograd_registration", "test_faketensor")
        torch.library.opcheck(
            operators._upfirdn2d, (laid, fir, 2, 1, [2, 1, 2, 1], "native"), test_utils=tests
        )
        torch.library.opcheck(
            operators._noise_bias_act, (laid, *vectors, "native"), test_utils=tests
        )


def test_an_exported_graph_keeps_the_operators() -> None:
    class Layer(torch.nn.Module):
        def forward(self, x: Tensor, fir: Tensor) -> Tensor:
            return operators.upsample2d(x, fir)

    x, fir = torch.randn(1, 3, 4, 4), torch.rand(4, 4)
    exported = torch.export.export(Layer(), (x, fir))
    assert "restyle.upfirdn2d" in str(exported.graph)
    assert torch.equal(exported.module()(x, fir), operators.upsample2d(x, fir))


def test_what_there_is_no_native_operator_for() -> None:
    x, fir = torch.randn(1, 1, 4, 4).half(), torch.ones(1, 1)
    assert torch.equal(operators.upfirdn2d(x, fir), x)
    with pytest.raises(KernelError, match=r"no compiled operators for torch\.float16 on cpu"):
        operators.upfirdn2d(x, fir, impl="native")
    with pytest.raises(KernelError, match="no compiled operators for mps"):
        native.library("mps", "native")
    with pytest.raises(KernelError, match="'fast' are no kernels; use auto, native, reference"):
        choice.resolved("fast")
