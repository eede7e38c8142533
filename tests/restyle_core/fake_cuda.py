"""Models on a GPU that is not there: shapes, layouts and devices of all that would happen.

Torch's fake tensors compute nothing and know everything else. Torch without CUDA cannot index those
of a GPU before something stands where CUDA's device guard would: three lines of C++.
"""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from restyle.core.checkpoints.loading import Networks
from restyle.core.devices import hardware
from restyle.core.inference.model import Model
from restyle.core.networks.config import (
    Domain,
    EncoderFile,
    EncoderKind,
    GeneratorFile,
    ModelConfig,
)
from restyle.core.networks.encoders import build_encoder
from restyle.core.networks.generator import Generator, GeneratorConfig

DEVICE = torch.device("cuda:0")

_GUARD = """
#include <c10/core/impl/DeviceGuardImplInterface.h>
C10_REGISTER_GUARD_IMPL(CUDA, c10::impl::NoOpDeviceGuardImpl<c10::DeviceType::CUDA>)
"""


@functools.cache
def _guard(folder: Path) -> None:
    compiler, at = shutil.which("g++"), Path(torch.__file__).parent
    if compiler is None:
        pytest.skip("g++ is not installed")
    source, library = folder / "guard.cpp", folder / "guard.so"
    source.write_text(_GUARD)
    flags = ["-std=c++20", "-O0", "-fPIC", "-shared", "-I", str(at / "include")]
    links = ["-L", str(at / "lib"), "-lc10", "-o", str(library)]
    subprocess.run([compiler, *flags, str(source), *links], check=True)
    ctypes.CDLL(str(library))


def stand_in(folder: Path) -> None:
    """Make fake tensors of a GPU possible in this process."""
    if not torch.backends.cuda.is_built():
        _guard(folder)


def moved(module: torch.nn.Module, *to: Any, memory_format: Any = None) -> torch.nn.Module:
    """``Module.to``, which does not move fake tensors."""
    layout = {} if memory_format is None else {"memory_format": memory_format}
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                fits = layout if parameter.ndim == 4 else {}
                part._parameters[name] = torch.nn.Parameter(parameter.detach().to(*to, **fits))
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(*to)
    return module


def fake_model(kind: EncoderKind, size: int, image_size: int, dtype: torch.dtype) -> Model:
    """A model of published widths on :data:`DEVICE`; called where fake tensors are made."""
    generator = Generator(GeneratorConfig.published(size))
    encoder = build_encoder(kind, generator.config.n_styles, image_size=(image_size,) * 2)
    average = torch.zeros(generator.config.n_styles, generator.config.style_dim)
    none = "0" * 64
    domain = Domain(name="fake", domain="faces", image_size=(image_size,) * 2, align=True)
    config = ModelConfig(
        **domain.model_dump(),
        generator=GeneratorFile(file="g", sha256=none),
        encoders={"e": EncoderFile(file="e", sha256=none, kind=kind, iterative=True)},
        default_encoder="e",
    )
    parts = Networks(config, "e", generator.eval(), encoder.eval(), average)
    return Model(parts, hardware.Placement(DEVICE, dtype, "for a test"))


def _readable(func: Any, args: Sequence[Any]) -> bool:
    """Whether the kernels of inference, which know no strides, read what they are given."""
    if str(func).startswith(("restyle.activate_", "restyle.excitation", "restyle.add_shortcut_")):
        x, *rest = args
        if "add_shortcut_" in str(func):
            shortcut, *rest = rest
            if shortcut.stride(1) != 1 or shortcut.shape != x.shape:
                return False
        vectors = all(each.is_contiguous() for each in rest if isinstance(each, Tensor))
        return bool(x.is_contiguous(memory_format=torch.channels_last)) and vectors
    if str(func) not in ("restyle.blur_layer.default", "restyle.to_rgb_layer.default"):
        return True
    x, y, *rest = args
    rows = y is None or y.stride()[1:] == (1, y.shape[3] * y.shape[1], y.shape[1])
    return (
        bool(x.is_contiguous(memory_format=torch.channels_last))
        and rows
        and all(each.is_contiguous() for each in rest if isinstance(each, Tensor))
    )


class Watch(TorchDispatchMode):
    """What is called, what stood in the way of a GPU, and how much memory was alive at once.

    Attributes:
        called: names of the operators.
        strange: calls that would make a GPU wait, that compute elsewhere, or read what is not
            where they look for it.
        peak: most bytes of tensors made since this began that lived at the same time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.called: set[str] = set()
        self.strange: list[str] = []
        self.peak = 0
        self._alive = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.called.add(str(func))
        given = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        made = [each for each in tree_leaves(result) if isinstance(each, Tensor)]
        # A number may be a CPU's: it goes with the call.
        elsewhere = [each for each in (*given, *made) if each.device != DEVICE and each.ndim]
        waits = "_local_scalar_dense" in str(func) or "mkldnn" in str(func)
        if elsewhere or waits or not _readable(func, args):
            self.strange.append(f"{func} of {[str(each.device) for each in (*given, *made)]}")
        for each in made:
            self._count(each)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        self._known.add(key)
        size = storage.nbytes()
        self._alive += size
        self.peak = max(self.peak, self._alive)
        weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._alive -= size
