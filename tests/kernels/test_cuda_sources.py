"""The CUDA kernels, run on the CPU: their indexing and sums against the definitions.

No GPU is needed, and none of its speed or its compiler is tested: a few headers stand in for CUDA,
and a block has two threads, which wait for each other where the kernel says so.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from restyle.kernels import native, operators, reference
from restyle.kernels.layers import (
    Colour,
    Epilogue,
    blur_layer,
    colour_layer,
    reference_blur_layer,
    reference_colour_layer,
)
from restyle.kernels.toolchain import SOURCES

LIMITS = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3, torch.float64: 1e-12}
HEADERS = Path(__file__).with_name("cuda_on_cpu")


class OnCpu:
    """Stands where the CPU's library does."""

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
    flags = ["-std=c++20", "-O0", "-fPIC", "-shared", "-pthread", "-I", str(HEADERS), "-x", "c++"]
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
    colour = Colour(torch.randn(2, 3, 6), torch.randn(3), *taps, skip)
    image, x = torch.zeros(2, 3, 8, 6), y.contiguous(memory_format=torch.channels_last)
    rows, colours = reference_colour_layer(x.float(), first, after, colour)
    colour_layer(x, z, image, first, after, colour)
    close(z, rows.double(), limit)
    close(image[:, :, first : first + 4], colours.double(), 1e-5)
    image.zero_()
    colour_layer(x, None, image, first, after, colour)
    close(image[:, :, first : first + 4], colours.double(), 1e-5)
    assert not image[:, :, :first].any()
    assert library.called == {"restyle_blur_layer", "restyle_colour_layer"}
