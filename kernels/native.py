"""Loading of compiled libraries, and their C structures (see csrc/interface.h)."""

from __future__ import annotations

import ctypes
import threading
import warnings

import torch
from torch import Tensor

from restyle.kernels import build, toolchain
from restyle.kernels.choice import Impl, resolved
from restyle.kernels.errors import KernelError, KernelWarning

_CODES = {torch.float32: 0, torch.bfloat16: 1, torch.float64: 2, torch.float16: 3}
_DTYPES = {"cpu": {torch.float32, torch.bfloat16, torch.float64}, "cuda": set(_CODES)}

PARTS = 32
"""``kParts`` of the libraries, which determines the size of scratch buffers."""

_i64, _i32, _pointer = ctypes.c_int64, ctypes.c_int32, ctypes.c_void_p


class Axis(ctypes.Structure):
    """One axis of a FIR filter."""

    _fields_ = [(name, _i64) for name in ("in_", "out", "taps", "up", "down", "before")]


class Upfirdn(ctypes.Structure):
    """Arguments of ``restyle_upfirdn``."""

    _fields_ = [
        ("dtype", _i32),
        *((name, _pointer) for name in ("x", "y", "fir")),
        *((name, _i64) for name in ("batch", "channels")),
        ("vertical", Axis),
        ("horizontal", Axis),
    ]


class Epilogue(ctypes.Structure):
    """Arguments of ``restyle_epilogue``."""

    _fields_ = [
        *((name, _i32) for name in ("dtype", "channels_last", "noise_per_image")),
        *((name, _pointer) for name in ("x", "y", "demodulation", "noise", "strength", "bias")),
        ("style", _pointer),
        *((name, _i64) for name in ("batch", "channels", "pixels")),
    ]


class EpilogueGradient(ctypes.Structure):
    """Arguments of ``restyle_epilogue_gradient``."""

    _fields_ = [
        ("forward", Epilogue),
        *((name, _pointer) for name in ("gradient", "x", "demodulation", "strength", "bias")),
        ("scratch", _pointer),
    ]


class Layer(ctypes.Structure):
    """Common part of the two structures below."""

    _fields_ = [
        ("dtype", _i32),
        *((name, _pointer) for name in ("x", "y", "demodulation", "noise", "strength", "bias")),
        ("style", _pointer),
        *((name, _i64) for name in ("batch", "channels", "first", "rows", "columns", "y_stride")),
    ]


class BlurLayer(ctypes.Structure):
    """Arguments of ``restyle_blur_layer``."""

    _fields_ = [("layer", Layer), ("vertical", _pointer), ("horizontal", _pointer)]


class ToRGBLayer(ctypes.Structure):
    """Arguments of ``restyle_to_rgb_layer``."""

    _fields_ = [
        ("layer", Layer),
        *((name, _pointer) for name in ("weight", "rgb_bias", "skip")),
        *((name, _pointer) for name in ("vertical", "horizontal", "image")),
        ("height", _i64),
    ]


class Activation(ctypes.Structure):
    """Arguments of ``restyle_activation``."""

    _fields_ = [
        *((name, _i32) for name in ("dtype", "edges")),
        *((name, _pointer) for name in ("x", "bias", "slope")),
        *((name, _i64) for name in ("batch", "channels", "rows", "columns")),
    ]


class Excitation(ctypes.Structure):
    """Arguments of ``restyle_excitation``."""

    _fields_ = [
        ("dtype", _i32),
        *((name, _pointer) for name in ("x", "bias", "down", "up", "y", "scratch")),
        *((name, _i64) for name in ("batch", "channels", "pixels", "hidden")),
    ]


class Residual(ctypes.Structure):
    """Arguments of ``restyle_residual``."""

    _fields_ = [
        *((name, _i32) for name in ("dtype", "cuts")),
        *((name, _pointer) for name in ("x", "shortcut", "bias", "shortcut_bias", "excitation")),
        *((name, _i64) for name in ("batch", "channels", "rows", "columns")),
        *((name, _i64) for name in ("image_stride", "row_stride", "column_stride")),
    ]


class Winograd(ctypes.Structure):
    """Arguments of ``restyle_winograd``."""

    _fields_ = [
        ("dtype", _i32),
        *((name, _pointer) for name in ("x", "y", "weight", "bias", "slope", "padding")),
        *((name, _i64) for name in ("doubles", "batch", "in_", "out", "panel")),
        *((name, _i64) for name in ("rows", "columns", "y_rows", "y_columns")),
        *((name, _i64) for name in ("above", "x_stride")),
    ]


class ToRGBConvolution(ctypes.Structure):
    """Arguments of ``restyle_to_rgb_convolution``."""

    _fields_ = [("convolution", Winograd), ("to_rgb", ToRGBLayer)]


class Library:
    """A loaded library.

    Args:
        target: ``cpu`` or ``cuda``.

    Attributes:
        toolchain: compiler and flags of the library.
        on_device: whether it computes on a GPU.

    Raises:
        KernelError: it cannot be built or loaded.
    """

    def __init__(self, target: toolchain.Target) -> None:
        self.toolchain = toolchain.find(target)
        path = build.ensure_built(self.toolchain)
        try:
            self._functions = ctypes.CDLL(str(path))
        except OSError as error:
            raise KernelError(f"{path} does not load: {error}") from error
        self.on_device = target == "cuda"

    def call(self, name: str, arguments: ctypes.Structure, device: torch.device) -> None:
        """Run one of the library's functions; on CUDA, in the current stream.

        Raises:
            KernelError: the function reports a failure.
        """
        function = getattr(self._functions, name)
        if self.on_device:
            with torch.cuda.device(device):
                stream = torch.cuda.current_stream().cuda_stream
                status = self._functions.restyle_use_device(device.index)
                status = status or function(ctypes.byref(arguments), ctypes.c_void_p(stream))
        else:
            status = function(ctypes.byref(arguments))
        if status:
            kind = "CUDA error" if self.on_device and status > 0 else "code"
            raise KernelError(f"{name} failed with {kind} {status}")


_lock = threading.Lock()
_loaded: dict[str, Library | KernelError] = {}


def library(target: str, impl: Impl = "auto") -> Library | None:
    """The library for a device type, built and loaded on first use.

    Args:
        target: ``cpu``, ``cuda``, or another type without a library.
        impl: see :data:`Impl`.

    Returns:
        None if the reference is to be used. With ``auto``, the first such result gives a warning.

    Raises:
        KernelError: ``impl`` is ``native`` and there is no library.
    """
    impl = resolved(impl)
    if impl == "reference" or (impl == "auto" and target not in _DTYPES):
        return None
    with _lock:
        found = _loaded.get(target)
        first = found is None
        if found is None:
            found = _loaded[target] = _load(target)
    if isinstance(found, Library):
        return found
    if impl == "native":
        raise KernelError(str(found))
    if first:
        warnings.warn(f"plain operators on this {target}: {found}", KernelWarning, stacklevel=2)
    return None


def _load(target: str) -> Library | KernelError:
    if target not in _DTYPES:
        return KernelError(f"there are no compiled operators for {target}")
    try:
        return Library("cuda" if target == "cuda" else "cpu")
    except KernelError as error:
        return error


def library_for(x: Tensor, impl: Impl) -> Library | None:
    """The library for the device and dtype of ``x``; None if the reference is to be used.

    Raises:
        KernelError: ``impl`` is ``native`` and there is no library for them.
    """
    target = x.device.type
    if target in _DTYPES and x.dtype not in _DTYPES[target]:
        if resolved(impl) == "native":
            raise KernelError(f"there are no compiled operators for {x.dtype} on {target}")
        return None
    return library(target, impl)


def describe(target: str, impl: Impl = "auto") -> str:
    """Describe the operators: ``native: g++ (GCC) 12.2`` or ``reference: no C++ compiler ...``.

    Raises:
        KernelError: as :func:`library`.
    """
    found = library(target, impl)
    if found is not None:
        return f"native: {found.toolchain.version.splitlines()[0]}"
    if resolved(impl) == "reference":
        return "reference: asked for"
    return f"reference: {_loaded.get(target, f'there are none for {target}')}"


def code_of(dtype: torch.dtype) -> int:
    """Code of a dtype in the libraries."""
    return _CODES[dtype]
