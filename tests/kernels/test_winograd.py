"""Convolutions with fewer multiplications against torch's own in double precision."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from restyle.kernels import winograd
from restyle.kernels.layers import RGBProjection, reference_to_rgb_layer, to_rgb_convolution
from restyle.kernels.winograd import Filters
from tests.kernels.test_layers import LIMITS, close, epilogue

CHANNELS_LAST = torch.channels_last

draws = settings(max_examples=60, deadline=None, derandomize=True)
dtypes = st.sampled_from(sorted(LIMITS, key=str))
widths = st.tuples(st.sampled_from([16, 32, 48, 80]), st.sampled_from([32, 64, 96, 128]))
"""Input and output channels."""


@pytest.fixture(autouse=True)
def _on_a_processor_that_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    # Where matrix units make them pointless, they have to be right nevertheless.
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    if winograd.transform(torch.randn(32, 16, 3, 3), torch.bfloat16) is None:
        pytest.skip("compiled for processors with AVX-512 and its bfloat16 only")


@pytest.fixture(params=[1, 2, 5])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def filters(weight: Tensor, dtype: torch.dtype, *, doubles: bool = False) -> Filters:
    found = winograd.transform(weight, dtype, "native", doubles=doubles)
    assert found is not None
    return found


@draws
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=widths,
    above=st.integers(0, 1),
    dtype=dtypes,
    layout=st.sampled_from(["last", "first", "apart"]),
    activated=st.booleans(),
    padded=st.booleans(),
)
def test_convolution(
    batch: int,
    size: tuple[int, int],
    channels: tuple[int, int],
    above: int,
    dtype: torch.dtype,
    layout: str,
    activated: bool,
    padded: bool,
) -> None:
    (into, out), (height, columns) = channels, size
    height += 2 - 2 * above
    weight = torch.randn(out, into, 3, 3)
    x = torch.randn(batch, into, height + 3, columns).to(dtype)
    x = x.contiguous(memory_format=CHANNELS_LAST)[:, :, 1:-2]
    if layout != "apart":
        order = CHANNELS_LAST if layout == "last" else torch.contiguous_format
        x = x.contiguous(memory_format=order)
    padding = torch.randn(into) if padded else None
    bias, slope = (torch.randn(out), torch.rand(out)) if activated else (None, None)

    edge = torch.zeros(into) if padding is None else padding
    wide = edge.double()[None, :, None, None].expand(batch, into, height + 2, columns + 2).clone()
    wide[:, :, 1:-1, 1:-1] = x
    exact = F.conv2d(wide if above else wide[:, :, 1:-1], weight.double())
    if bias is not None and slope is not None:
        exact = F.prelu(exact + bias.double()[:, None, None], slope.double())
    ours = winograd.convolve(
        x, filters(weight, dtype), above=above, bias=bias, slope=slope, padding=padding
    )
    assert ours.is_contiguous(memory_format=CHANNELS_LAST)
    close(ours, exact, LIMITS[dtype])


@draws
@given(
    batch=st.integers(1, 3),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    channels=widths,
    dtype=dtypes,
)
def test_doubling(
    batch: int, size: tuple[int, int], channels: tuple[int, int], dtype: torch.dtype
) -> None:
    into, out = channels
    weight = torch.randn(out, into, 3, 3)
    x = torch.randn(batch, into, *size).to(dtype).contiguous(memory_format=CHANNELS_LAST)
    exact = F.conv_transpose2d(x.double(), weight.double().transpose(0, 1), stride=2)
    close(winograd.convolve(x, filters(weight, dtype, doubles=True)), exact, LIMITS[dtype])


# So many tiles that threads share them, some that are shared by output channels, and a few.
@pytest.mark.parametrize("size", [(2, 3), (9, 8), (33, 34)])
@pytest.mark.parametrize("doubles", [False, True])
def test_any_number_of_threads_computes_the_same(
    size: tuple[int, int], doubles: bool, threads: int
) -> None:
    weight = torch.randn(320, 32, 3, 3)
    x = torch.randn(2, 32, *size).contiguous(memory_format=CHANNELS_LAST)
    ready = filters(weight, torch.float32, doubles=doubles)
    ours = winograd.convolve(x, ready)
    torch.set_num_threads(3 if threads == 1 else 1)
    assert torch.equal(winograd.convolve(x, ready), ours)


@draws
@given(
    batch=st.integers(1, 2),
    size=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    channels=widths,
    dtype=dtypes,
    scaled=st.booleans(),
    kept=st.booleans(),
    skipped=st.booleans(),
)
def test_to_rgb_convolution(
    batch: int,
    size: tuple[int, int],
    channels: tuple[int, int],
    dtype: torch.dtype,
    scaled: bool,
    kept: bool,
    skipped: bool,
) -> None:
    into, out = channels
    # Odd ones have no image of half their size.
    height, columns = (side * 2 for side in size) if skipped else size
    weight = torch.randn(out, into, 3, 3) / (3 * into**0.5)
    x = torch.randn(batch, into, height + 2, columns).to(dtype)
    x[:, :, 0] = x[:, :, -1] = 0
    x = x.contiguous(memory_format=CHANNELS_LAST)
    after = epilogue(batch, out, (height, columns), scaled)
    skip = torch.randn(batch, 3, height // 2, columns // 2) if skipped else None
    taps = (torch.randn(4), torch.randn(4))
    colour = RGBProjection(torch.randn(batch, 3, out), torch.randn(3), *taps, skip)

    # The convolution in double precision, the rest as its own test has it.
    flat = F.conv2d(x.double(), weight.double(), padding=(0, 1))
    exact, colours = reference_to_rgb_layer(flat.float(), 0, after, colour)
    larger = torch.full((batch, out, height + 2, columns), 7.0, dtype=dtype)
    larger = larger.contiguous(memory_format=CHANNELS_LAST)
    image = torch.full((batch, 3, height, columns), 9.0)
    y = larger[:, :, 1:-1] if kept else None
    to_rgb_convolution(x, filters(weight, dtype), y, image, after, colour)
    if y is not None:
        close(y, exact.double(), LIMITS[dtype])
    assert (larger[:, :, (0, -1)] == 7).all()
    close(image, colours.double(), LIMITS[dtype])


@pytest.mark.parametrize(
    ("weight", "dtype", "impl"),
    [
        (torch.ones(64, 32, 1, 1), torch.float32, "auto"),
        (torch.ones(64, 6, 3, 3), torch.float32, "auto"),
        (torch.ones(48, 32, 3, 3), torch.float32, "auto"),
        (torch.ones(64, 32, 3, 3), torch.float64, "auto"),
        (torch.ones(64, 32, 3, 3), torch.float32, "reference"),
    ],
)
def test_what_does_not_fit_is_left_to_torch(
    weight: Tensor, dtype: torch.dtype, impl: winograd.Impl
) -> None:
    assert winograd.transform(weight, dtype, impl) is None


def test_matrix_units_do_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    weight = torch.ones(64, 32, 3, 3)
    assert winograd.transform(weight, torch.bfloat16) is None
    assert winograd.transform(weight, torch.float32) is not None


def test_it_is_seen_by_the_compiler_s_tracing() -> None:
    x = torch.randn(2, 16, 5, 6).contiguous(memory_format=CHANNELS_LAST)
    vectors = (torch.randn(32), torch.rand(32), None)
    for doubles in (False, True):
        packed = filters(torch.randn(32, 16, 3, 3), torch.float32, doubles=doubles).packed
        torch.library.opcheck(
            torch.ops.restyle.winograd.default,
            (x, packed, *vectors, 32, 1, doubles),
            test_utils=("test_schema", "test_faketensor"),
        )
