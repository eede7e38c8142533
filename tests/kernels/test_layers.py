"""What follows convolutions in inference, against the definitions in double precision."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from restyle.kernels import choice
from restyle.kernels.layers import (
    Epilogue,
    RGBProjection,
    blur_layer,
    reference_blur_layer,
    reference_to_rgb_layer,
    to_rgb_layer,
)
from tests.restyle_core import plain

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
"""Largest error against float64, relative to the largest value."""

draws = settings(max_examples=40, deadline=None, derandomize=True)
dtypes = st.sampled_from(sorted(LIMITS, key=str))
shapes = st.tuples(
    *(st.integers(1, 3), st.sampled_from([1, 3, 16, 32, 64, 70]), st.integers(1, 5)),
    st.integers(1, 9),
)
"""Batch, channels, rows, columns."""


def double(parts: Any) -> Any:
    """A dataclass of tensors in double precision."""
    tensors = {field.name: getattr(parts, field.name) for field in fields(parts)}
    return replace(parts, **{k: None if v is None else v.double() for k, v in tensors.items()})


def epilogue(batch: int, channels: int, size: tuple[int, int], scaled: bool) -> Epilogue:
    return Epilogue(
        demodulation=torch.rand(batch, channels) + 0.1,
        noise=torch.randn(1, 1, *size),
        strength=torch.randn(1),
        bias=torch.randn(channels),
        style=torch.randn(batch, channels) if scaled else None,
    )


def rows_of_a_larger(shape: tuple[int, int, int, int], dtype: torch.dtype) -> Tensor:
    batch, channels, rows, columns = shape
    larger = torch.full((batch, channels, rows + 3, columns), 7.0, dtype=dtype)
    return larger.contiguous(memory_format=torch.channels_last)[:, :, 1:-2]


def close(ours: Tensor, exact: Tensor, limit: float) -> None:
    assert ours.shape == exact.shape
    assert (ours.double() - exact).abs().max() <= limit * exact.abs().max()


@draws
@given(shape=shapes, dtype=dtypes, first=st.integers(0, 3), scaled=st.booleans())
def test_blur_layer(
    shape: tuple[int, int, int, int], dtype: torch.dtype, first: int, scaled: bool
) -> None:
    batch, channels, rows, columns = shape
    x = torch.randn(batch, channels, rows + 5, columns + 1).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    after = epilogue(batch, channels, (first + rows + 2, columns), scaled)
    taps = (torch.randn(4), torch.randn(4))
    exact = reference_blur_layer(
        x.double(), first, double(after), (taps[0].double(), taps[1].double())
    )
    y = rows_of_a_larger(shape, dtype)
    blur_layer(x, y, first, after, taps)
    close(y, exact, LIMITS[dtype])


def test_blur_layer_is_the_blur_of_the_generator() -> None:
    """The whole of an upsampling layer in one piece, with rows of zeros around its input."""
    x, weight = torch.randn(1, 3, 4, 5), torch.randn(3, 2, 3, 3)
    tall = torch.nn.functional.conv_transpose2d(x, weight, stride=2)
    after = epilogue(1, 2, (8, 10), scaled=False)
    smooth = plain.filter_image(tall, plain.smoothing(), 1, 1)
    y = smooth * after.demodulation[:, :, None, None] + after.strength * after.noise
    y = y + after.bias[:, None, None]
    expected = torch.where(y > 0, y, 0.2 * y) * 2**0.5
    padded = torch.nn.functional.pad(x, (0, 0, 1, 1)).contiguous(memory_format=torch.channels_last)
    tall = torch.nn.functional.conv_transpose2d(padded, weight, stride=2)
    ours = torch.empty(1, 2, 8, 10).contiguous(memory_format=torch.channels_last)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
    blur_layer(tall.contiguous(memory_format=torch.channels_last), ours, 0, after, (taps, taps))
    torch.testing.assert_close(ours, expected, atol=2e-5, rtol=1e-4)


@draws
@given(
    shape=shapes,
    dtype=dtypes,
    first=st.integers(0, 3),
    scaled=st.booleans(),
    kept=st.booleans(),
    skipped=st.booleans(),
)
def test_to_rgb_layer(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    first: int,
    scaled: bool,
    kept: bool,
    skipped: bool,
) -> None:
    batch, channels, rows, columns = shape
    columns, height = columns + columns % 2, (first + rows + 3) // 2 * 2
    x = torch.randn(batch, channels, rows, columns).to(dtype)
    x = x.contiguous(memory_format=torch.channels_last)
    after = epilogue(batch, channels, (height, columns), scaled)
    skip = torch.randn(batch, 3, height // 2, columns // 2) if skipped else None
    colour = RGBProjection(
        torch.randn(batch, 3, channels), torch.randn(3), torch.randn(4), torch.randn(4), skip
    )
    exact, colours = reference_to_rgb_layer(x.double(), first, double(after), double(colour))
    y = rows_of_a_larger((batch, channels, rows, columns), dtype) if kept else None
    image = torch.full((batch, 3, height, columns), 9.0)
    to_rgb_layer(x, y, image, first, after, colour)
    if y is not None:
        close(y, exact, LIMITS[dtype])
    # Not of what was rounded for the next convolution.
    written = slice(first, first + rows)
    assert (image[:, :, written] - colours).abs().max() < 1e-5 * max(10, colours.abs().max())
    assert (image[:, :, :first] == 9).all()
    assert (image[:, :, first + rows :] == 9).all()


def test_without_a_compiler_they_do_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 4, 9, 7).contiguous(memory_format=torch.channels_last)
    after, taps = epilogue(2, 4, (4, 6), scaled=True), (torch.rand(4), torch.rand(4))
    colour = RGBProjection(torch.rand(2, 3, 4), torch.rand(3), *taps, torch.rand(2, 3, 2, 3))
    results = []
    for impl in ("native", "reference"):
        monkeypatch.setenv(choice.VARIABLE, impl)
        y = torch.empty(2, 4, 4, 6).contiguous(memory_format=torch.channels_last)
        z, image = torch.empty_like(y), torch.empty(2, 3, 4, 6)
        blur_layer(x, y, 0, after, taps)
        to_rgb_layer(y, z, image, 0, after, colour)
        results.append((y, z, image))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_they_are_seen_by_the_compiler_s_tracing() -> None:
    y = torch.empty(1, 4, 4, 6).contiguous(memory_format=torch.channels_last)
    after, taps = epilogue(1, 4, (4, 6), scaled=True), (torch.rand(4), torch.rand(4))
    vectors = (after.demodulation, after.noise, after.strength, after.bias, after.style)
    x = torch.randn(1, 4, 9, 7).contiguous(memory_format=torch.channels_last)
    tests = ("test_schema", "test_faketensor")
    torch.library.opcheck(
        torch.ops.restyle.blur_layer.default, (x, y, *vectors, *taps, 0), test_utils=tests
    )
    image = torch.zeros(1, 3, 4, 6)
    arguments = (y.clone(), y, image, *vectors, torch.rand(1, 3, 4), torch.rand(3), *taps, None, 0)
    torch.library.opcheck(torch.ops.restyle.to_rgb_layer.default, arguments, test_utils=tests)
