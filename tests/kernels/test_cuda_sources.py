"""The CUDA kernels, run on the CPU: their indexing and sums against the definitions.

No GPU is needed, and none of its speed or its compiler is tested: a few headers stand in for CUDA,
and the threads of a block take turns. Accesses are as wide as on a GPU, and so are warps.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from restyle.kernels import native, operators, reference
from restyle.kernels.encoder_layers import (
    activate_,
    add_shortcut_,
    edge_table,
    excitation,
    reference_activate,
    reference_add_shortcut,
    reference_excitation,
)
from restyle.kernels.layers import (
    Epilogue,
    RGBProjection,
    blur_layer,
    reference_blur_layer,
    reference_to_rgb_layer,
    to_rgb_layer,
)
from restyle.kernels.toolchain import SOURCES

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float64: 1e-12}
HEADERS = Path(__file__).with_name("cuda_on_cpu")


class OnCpu:
    """Stands where the CPU's library does."""

    on_device = True

    def __init__(self, path: Path) -> None:
        self._functions = ctypes.CDLL(str(path))
        self.called: set[str] = set()

    def call(self, name: str, arguments: ctypes.Structure, device: torch.device) -> None:
        assert device.type == "cpu"
        assert getattr(self._functions, name)(ctypes.byref(arguments), None) == 0
        self.called.add(name)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed")
    path = tmp_path_factory.mktemp("cuda") / "cuda.so"
    flags = ["-std=c++20", "-O1", "-fPIC", "-shared", "-pthread", "-I", str(HEADERS), "-x", "c++"]
    sources = sorted(map(str, SOURCES.glob("*.cu")))
    subprocess.run([compiler, *flags, *sources, "-o", path], check=True)
    return path


@pytest.fixture
def library(built: Path, monkeypatch: pytest.MonkeyPatch) -> OnCpu:
    found = OnCpu(built)
    monkeypatch.delenv("RESTYLE_KERNELS", raising=False)
    monkeypatch.setattr(native, "library_for", lambda *_: found)
    return found


def tensor(*shape: int, dtype: torch.dtype, last: bool) -> Tensor:
    layout = torch.channels_last if last else torch.contiguous_format
    return torch.randn(shape).to(dtype).contiguous(memory_format=layout)


def close(ours: Tensor, exact: Tensor, limit: float) -> None:
    assert ours.shape == exact.shape
    assert (ours.double() - exact).abs().max() <= limit * exact.abs().max()


def doubled(parts: Any) -> Any:
    """A dataclass of tensors in double precision."""
    tensors = {field.name: getattr(parts, field.name) for field in fields(parts)}
    return replace(parts, **{k: None if v is None else v.double() for k, v in tensors.items()})


@pytest.mark.parametrize(
    ("dtype", "last"),
    [
        (torch.float32, True),
        (torch.bfloat16, False),
        (torch.float16, True),
        (torch.float64, False),
    ],
    ids=str,
)
def test_operators(library: OnCpu, dtype: torch.dtype, last: bool) -> None:
    limit = LIMITS[dtype]
    x, fir = tensor(2, 5, 6, 7, dtype=dtype, last=last), torch.randn(4, 3)
    geometry: dict[str, Any] = {"up": 3, "down": 2, "padding": (-1, 2, 3, 1)}
    exact = reference.upfirdn2d(x.double(), fir.double(), **geometry)
    close(operators.upfirdn2d(x, fir, **geometry), exact, limit)

    wide = torch.float64 if dtype == torch.float64 else torch.float32
    vectors = [torch.rand(2, 5, dtype=wide), torch.randn(1, dtype=wide), torch.randn(5, dtype=wide)]
    noise, towards = torch.randn(2, 1, 6, 7, dtype=wide), torch.randn(2, 5, 6, 7).to(dtype)
    inputs = [part.requires_grad_() for part in (x, *vectors)]
    doubles = [part.detach().double().requires_grad_() for part in inputs]
    y = operators.noise_bias_act(inputs[0], inputs[1], noise, inputs[2], inputs[3])
    exact = reference.noise_bias_act(doubles[0], doubles[1], noise.double(), *doubles[2:])
    close(y, exact, limit)
    wanted = torch.autograd.grad(exact, doubles, towards.double())
    for mine, theirs in zip(torch.autograd.grad(y, inputs, towards), wanted, strict=True):
        close(mine, theirs, 10 * limit)
    names = {"restyle_upfirdn", "restyle_epilogue", "restyle_epilogue_gradient"}
    assert library.called == names


@pytest.mark.parametrize(
    ("dtype", "scaled"),
    [(torch.float32, True), (torch.bfloat16, False), (torch.float16, True)],
    ids=str,
)
def test_layers(library: OnCpu, dtype: torch.dtype, scaled: bool) -> None:
    limit, first = LIMITS[dtype], 2
    x = tensor(2, 6, 9, 7, dtype=dtype, last=True)
    after = Epilogue(
        torch.rand(2, 6), torch.randn(1, 1, 8, 6), torch.rand(1), torch.randn(6),
        torch.randn(2, 6) if scaled else None,
    )  # fmt: skip
    taps = (torch.rand(4), torch.rand(4))
    # Rows of larger activations, whose images lie further apart.
    y, z = (tensor(2, 6, 7, 6, dtype=dtype, last=True)[:, :, 1:5] for _ in range(2))
    blur_layer(x, y, first, after, taps)
    close(y, reference_blur_layer(x.float(), first, after, taps).double(), limit)

    skip = torch.randn(2, 3, 4, 3) if scaled else None
    colour = RGBProjection(torch.randn(2, 3, 6), torch.randn(3), *taps, skip)
    image, x = torch.zeros(2, 3, 8, 6), y.contiguous(memory_format=torch.channels_last)
    rows, colours = reference_to_rgb_layer(x.float(), first, after, colour)
    to_rgb_layer(x, z, image, first, after, colour)
    close(z, rows.double(), limit)
    close(image[:, :, first : first + 4], colours.double(), 1e-5)
    image.zero_()
    to_rgb_layer(x, None, image, first, after, colour)
    close(image[:, :, first : first + 4], colours.double(), 1e-5)
    assert not image[:, :, :first].any()
    assert library.called == {"restyle_blur_layer", "restyle_to_rgb_layer"}


# Channel counts with a kernel of their own, others that are accessed 16 bytes at a time, and odd
# ones, which are accessed value by value.
COUNTS = {
    torch.float32: (16, 32, 64, 128, 12, 136, 7),
    torch.bfloat16: (32, 64, 128, 256, 24, 264, 7),
    torch.float16: (32, 520, 5),
    torch.float64: (6, 65),
}
EACH = [(dtype, count) for dtype, counts in COUNTS.items() for count in counts]


def wide_of(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype == torch.float64 else torch.float32


def epilogue(channels: int, size: tuple[int, int], wide: torch.dtype, scaled: bool) -> Epilogue:
    parts = (
        torch.rand(2, channels),
        torch.randn(1, 1, *size),
        torch.rand(1),
        torch.randn(channels),
    )
    style = torch.randn(2, channels, dtype=wide) if scaled else None
    return Epilogue(*(part.to(wide) for part in parts), style)


@pytest.mark.parametrize(("dtype", "channels"), EACH, ids=str)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 9), (37, 4)], ids=str)
def test_blur_layer_of_every_width(
    library: OnCpu, dtype: torch.dtype, channels: int, rows: int, columns: int
) -> None:
    wide, first = wide_of(dtype), 2
    x = tensor(2, channels, rows + 5, columns + 1, dtype=dtype, last=True)
    after = epilogue(channels, (rows + 3, columns), wide, scaled=rows == 7)
    taps = (torch.rand(4, dtype=wide), torch.rand(4, dtype=wide))
    larger = torch.full((2, channels, rows + 2, columns), 7.0, dtype=dtype)
    y = larger.contiguous(memory_format=torch.channels_last)
    blur_layer(x, y[:, :, 1:-1], first, after, taps)
    exact = reference_blur_layer(
        x.double(), first, doubled(after), (taps[0].double(), taps[1].double())
    )
    close(y[:, :, 1:-1], exact, LIMITS[dtype])
    assert (y[:, :, [0, -1]] == 7).all()


@pytest.mark.parametrize(("dtype", "channels"), EACH, ids=str)
@pytest.mark.parametrize(("rows", "columns", "kept"), [(1, 2, True), (5, 34, True), (19, 6, False)])
def test_to_rgb_layer_of_every_width(
    library: OnCpu, dtype: torch.dtype, channels: int, rows: int, columns: int, kept: bool
) -> None:
    wide, first, height = wide_of(dtype), 1, (rows + 4) // 2 * 2
    x = tensor(2, channels, rows, columns, dtype=dtype, last=True)
    after = epilogue(channels, (height, columns), wide, scaled=kept)
    skip = None if rows == 1 else torch.randn(2, 3, height // 2, columns // 2, dtype=wide)
    parts = (torch.randn(2, 3, channels), torch.randn(3), torch.rand(4), torch.rand(4))
    colour = RGBProjection(*(part.to(wide) for part in parts), skip)
    larger = torch.full((2, channels, rows + 2, columns), 7.0, dtype=dtype)
    y = larger.contiguous(memory_format=torch.channels_last)
    image = torch.full((2, 3, height, columns), 9.0, dtype=wide)
    to_rgb_layer(x, y[:, :, 1:-1] if kept else None, image, first, after, colour)
    exact, colours = reference_to_rgb_layer(x.double(), first, doubled(after), doubled(colour))
    if kept:
        close(y[:, :, 1:-1], exact, LIMITS[dtype])
    assert (y[:, :, [0, -1]] == 7).all()
    close(image[:, :, first : first + rows], colours, min(LIMITS[dtype], 1e-5))
    assert (image[:, :, :first] == 9).all()
    assert (image[:, :, first + rows :] == 9).all()


GEOMETRIES = [
    # Up, down, padding left, right, top, bottom, taps: those of training and their gradients', then
    # others.
    (1, 1, (1, 1, 1, 1), (4, 4)),
    (1, 1, (2, 2, 2, 2), (4, 4)),
    (2, 1, (2, 1, 2, 1), (4, 4)),
    (2, 1, (1, 2, -1, 4), (4, 4)),
    (1, 2, (1, 1, 1, 1), (4, 4)),
    (1, 2, (-1, 3, 2, 0), (4, 4)),
    (2, 2, (0, 3, 2, 1), (4, 4)),
    (3, 2, (-1, 2, 3, 1), (4, 3)),
    (1, 3, (5, 0, 0, 5), (2, 5)),
]


@pytest.mark.parametrize(("up", "down", "padding", "taps"), GEOMETRIES)
@pytest.mark.parametrize(
    ("dtype", "channels", "last"),
    [
        (torch.float32, 16, True),
        (torch.bfloat16, 16, True),
        (torch.float16, 5, True),
        (torch.float64, 3, False),
    ],
    ids=str,
)
def test_upfirdn2d_of_every_geometry(
    library: OnCpu,
    up: int,
    down: int,
    padding: tuple[int, int, int, int],
    taps: tuple[int, int],
    dtype: torch.dtype,
    channels: int,
    last: bool,
) -> None:
    x = tensor(2, channels, 9, 7, dtype=dtype, last=last).requires_grad_()
    fir = torch.randn(taps)
    y = operators.upfirdn2d(x, fir, up=up, down=down, padding=padding)
    double = x.detach().double().requires_grad_()
    exact = reference.upfirdn2d(double, fir.double(), up=up, down=down, padding=padding)
    close(y, exact, LIMITS[dtype])
    towards = torch.randn(y.shape).to(dtype)
    (ours,) = torch.autograd.grad(y, x, towards)
    (theirs,) = torch.autograd.grad(exact, double, towards.double())
    close(ours, theirs, LIMITS[dtype])


@pytest.mark.parametrize(
    ("dtype", "channels", "size", "last", "own_noise"),
    [
        (torch.float32, 516, (3, 2), True, True),
        (torch.float32, 7, (5, 11), True, False),
        (torch.float32, 3, (8, 8), False, True),
        (torch.bfloat16, 16, (9, 7), True, False),
        (torch.bfloat16, 3, (8, 8), False, False),
        (torch.bfloat16, 150, (2, 3), True, True),
        (torch.float16, 16, (9, 7), True, True),
        (torch.float16, 2, (7, 45), False, False),
        (torch.float64, 2, (7, 45), False, True),
        (torch.float64, 6, (5, 11), True, False),
    ],
    ids=str,
)
def test_noise_bias_act_of_every_layout(
    library: OnCpu,
    dtype: torch.dtype,
    channels: int,
    size: tuple[int, int],
    last: bool,
    own_noise: bool,
) -> None:
    wide = wide_of(dtype)
    vectors = [torch.rand(3, channels), torch.randn(1), torch.randn(channels)]
    noise = torch.randn(3 if own_noise else 1, 1, *size, dtype=wide)
    parts = [tensor(3, channels, *size, dtype=dtype, last=last), *(v.to(wide) for v in vectors)]
    inputs = [part.requires_grad_() for part in parts]
    doubles = [part.detach().double().requires_grad_() for part in inputs]
    y = operators.noise_bias_act(inputs[0], inputs[1], noise, inputs[2], inputs[3])
    exact = reference.noise_bias_act(doubles[0], doubles[1], noise.double(), *doubles[2:])
    close(y, exact, LIMITS[dtype])
    towards = torch.randn(y.shape).to(dtype).contiguous(memory_format=torch.channels_last)
    wanted = torch.autograd.grad(exact, doubles, towards.double())
    to_x, *to_vectors = torch.autograd.grad(y, inputs, towards)
    close(to_x, wanted[0], LIMITS[dtype])
    # Sums are made in the compute type. What cancels in them is as large as their parts.
    largest = max(1.0, float(parts[0].detach().abs().max()), float(noise.abs().max()))
    scale = largest * towards.double().abs().sum(dim=(0, 2, 3)).max()
    for mine, theirs in zip(to_vectors, wanted[1:], strict=True):
        limit = min(LIMITS[dtype], 1e-5) * scale * (channels if theirs.numel() == 1 else 1)
        assert (mine.double() - theirs).abs().max() <= limit


def slopes(channels: int, wide: torch.dtype) -> Tensor:
    return torch.rand(channels, dtype=wide)


@pytest.mark.parametrize(
    ("dtype", "channels"),
    [(torch.float32, 64), (torch.float32, 7), (torch.bfloat16, 72), (torch.bfloat16, 9),
     (torch.float16, 16), (torch.float64, 6)],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 1), (19, 7)], ids=str)
def test_what_stands_between_the_encoder_s_convolutions(
    library: OnCpu, dtype: torch.dtype, channels: int, size: tuple[int, int]
) -> None:
    wide, limit = wide_of(dtype), LIMITS[dtype]
    x = tensor(2, channels, *size, dtype=dtype, last=True)
    bias, slope = torch.randn(channels, dtype=wide), slopes(channels, wide)
    edges = edge_table(torch.randn(channels, 3, 3, dtype=wide))
    for vector, negative in ((bias, None), (bias, slope), (edges, slope)):
        exact = reference_activate(
            x.double(), vector.double(), None if negative is None else negative.double()
        )
        close(
            activate_(x.clone(memory_format=torch.preserve_format), vector, negative), exact, limit
        )

    down, up = (torch.randn(5, channels, dtype=wide) / channels**0.5 for _ in range(2))
    factors = excitation(x, bias, down, up)
    exact = reference_excitation(*(part.double() for part in (x, bias, down, up)))
    assert factors.dtype == wide
    close(factors, exact, min(limit, 1e-5))

    # Every second row and column of a larger map, as a unit's shortcut is.
    larger = tensor(2, channels, 2 * size[0] - 1, 2 * size[1], dtype=dtype, last=True)
    shortcut = larger[:, :, ::2, ::2]
    for second, scale, cuts in ((None, factors, False), (bias, None, True)):
        y = add_shortcut_(
            x.clone(memory_format=torch.preserve_format), shortcut, bias, second, scale, cuts=cuts
        )
        given = (None if part is None else part.double() for part in (second, scale))
        exact = reference_add_shortcut(x.double(), shortcut.double(), bias.double(), *given, cuts)
        close(y, exact, limit)
    assert library.called == {"restyle_activation", "restyle_excitation", "restyle_residual"}


def test_edges_are_those_of_a_padded_convolution() -> None:
    weight = torch.randn(6, 1, 3, 3, dtype=torch.float64)
    for size in ((1, 1), (1, 4), (2, 2), (5, 3)):
        ones = torch.ones(1, 1, *size, dtype=torch.float64)
        exact = torch.nn.functional.conv2d(ones, weight, padding=1)
        table = edge_table(weight[:, 0])
        ours = reference_activate(torch.zeros(1, 6, *size, dtype=torch.float64), table, None)
        torch.testing.assert_close(ours, exact)


def test_not_a_number_stays_one_and_is_seen_where_it_belongs_alone(library: OnCpu) -> None:
    x = torch.ones(1, 8, 9, 6, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    x[0, 3, 4, 2] = torch.nan
    after = epilogue(8, (4, 5), torch.float32, scaled=False)
    after = replace(after, demodulation=after.demodulation[:1].contiguous())
    y = torch.empty(1, 8, 4, 5, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    blur_layer(x, y, 0, after, (torch.rand(4), torch.rand(4)))
    wrong = torch.zeros(1, 8, 4, 5, dtype=torch.bool)
    # Row 4 is seen by outputs 0 to 3, column 2 by outputs 0 to 3.
    wrong[0, 3, 0:4, 0:4] = True
    assert torch.equal(y.isnan(), wrong)
