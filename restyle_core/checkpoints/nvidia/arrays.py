"""Arrays in pickles: numpy's, and tensors over torch's storages.

Their bytes are views of the file until a tensor is asked for, and every declared shape is checked
against the bytes that are there.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from restyle.core.checkpoints.nvidia.unpickler import (
    Constructors,
    Name,
    PickleRefusedError,
    unpickle,
)

_ORDERS = ("<", ">", "=", "|")
_KINDS = frozenset({"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"})

_STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_STORAGE_NAMES: Constructors = {
    Name("collections", "OrderedDict"): dict,
    **{Name("torch", name): None for name in _STORAGES},
}

# Constants of torch.save before its zip format.
_MAGIC = 0x1950A86A20F9469CFC6C
_PROTOCOL = 1001


@dataclass
class ArrayType:
    """numpy's dtype of plain numbers.

    Attributes:
        kind: kind and bytes, such as ``f4``.
        order: of the bytes.
    """

    kind: str
    order: str = "="

    def set_state(self, state: Any) -> None:
        """Take ``(version, order, subarray, names, fields, size, alignment, flags)``."""
        order = state[1]
        if order not in _ORDERS or any(state[2:5]):
            raise PickleRefusedError("has an array of records")
        self.order = order

    @property
    def dtype(self) -> np.dtype[Any]:
        """As numpy's own."""
        return np.dtype(self.order + self.kind)


def array_type(kind: str, *_: Any) -> ArrayType:
    """``numpy.dtype(kind, align, copy)``."""
    kind = kind.lstrip("<>=|")
    if kind not in _KINDS:
        raise PickleRefusedError(f"has an array of {kind[:20]!r}, which are no plain numbers")
    return ArrayType(kind)


@dataclass
class Array:
    """A numpy array; its content comes after it in the pickle."""

    value: np.ndarray[Any, Any] = field(default_factory=lambda: np.zeros(0, np.float32))

    def set_state(self, state: Any) -> None:
        """Take ``(version, shape, dtype, is_fortran, bytes)``."""
        _, shape, kind, is_fortran, raw = state
        self.value = _shaped(raw, kind, shape, "F" if is_fortran else "C")

    def tensor(self) -> Tensor:
        """A copy as a tensor."""
        native = self.value.astype(self.value.dtype.newbyteorder("="), order="C")
        return torch.from_numpy(native)


def empty_array(*_: Any) -> Array:
    """``numpy.core.multiarray._reconstruct(ndarray, shape, kind)``."""
    return Array()


def array_of_buffer(raw: Any, kind: Any, shape: Any, order: Any) -> Array:
    """``numpy.core.numeric._frombuffer(buffer, dtype, shape, order)``, of protocol 5."""
    return Array(_shaped(raw, kind, shape, "F" if order == "F" else "C"))


def scalar(kind: Any, raw: Any) -> Any:
    """``numpy.core.multiarray.scalar(dtype, bytes)`` as a number of Python."""
    return _shaped(raw, kind, (), "C").item()


def _shaped(raw: Any, kind: Any, shape: Any, order: Any) -> np.ndarray[Any, Any]:
    if not isinstance(kind, ArrayType):
        raise PickleRefusedError("has an array without a type")
    if isinstance(raw, str):
        # Bytes of Python 2.
        raw = raw.encode("latin-1")
    if not isinstance(raw, bytes | bytearray):
        raise PickleRefusedError("has an array of objects")
    sizes = _sizes(shape)
    if math.prod(sizes) * kind.dtype.itemsize != len(raw):
        raise PickleRefusedError(f"has an array of {sizes} {kind.kind} in {len(raw):,} bytes")
    return np.frombuffer(raw, kind.dtype).reshape(sizes, order=order)


@dataclass(frozen=True, eq=False)
class Storage:
    """Numbers of a tensor or of several.

    Attributes:
        dtype: of the numbers.
        raw: their bytes, little-endian.
        count: how many they are.
    """

    dtype: torch.dtype
    raw: memoryview
    count: int


@dataclass(frozen=True)
class _StorageId:
    key: str
    dtype: torch.dtype
    count: int


def _storage_id(identifier: Any) -> _StorageId:
    match identifier:
        case ("storage", Name("torch", name), str(key), _, int(count), None):
            return _StorageId(key, _STORAGES[name], count)
    raise PickleRefusedError("refers to objects outside of itself")


def load_storage(data: Any) -> Storage:
    """Read a storage that ``torch.save`` wrote before its zip format, as pickled tensors hold them.

    Raises:
        PickleRefusedError: the bytes are something else, or fewer or more than declared.
    """
    if not isinstance(data, bytes):
        raise PickleRefusedError("has a tensor without bytes")
    file = io.BytesIO(data)
    if (unpickle(file, {}), unpickle(file, {})) != (_MAGIC, _PROTOCOL):
        raise PickleRefusedError("has a tensor in an unknown format")
    system = unpickle(file, {})
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise PickleRefusedError("has tensors of a big-endian machine")
    found = unpickle(file, _STORAGE_NAMES, _storage_id)
    if not isinstance(found, _StorageId) or unpickle(file, {}) != [found.key]:
        raise PickleRefusedError("has a tensor in an unknown format")
    count = int.from_bytes(file.read(8), "little")
    raw = memoryview(data)[file.tell() :]
    if count != found.count or count * found.dtype.itemsize != len(raw):
        raise PickleRefusedError(
            f"has a tensor of {max(count, found.count):,} numbers in {len(raw):,} bytes"
        )
    return Storage(found.dtype, raw, count)


@dataclass(frozen=True, eq=False)
class StoredTensor:
    """A tensor over a storage; shape and strides are checked.

    Attributes:
        storage: its numbers.
        offset: index of the first one.
        size: shape.
        stride: distance of neighbours along each dimension.
    """

    storage: Storage
    offset: int
    size: list[int]
    stride: list[int]

    def tensor(self) -> Tensor:
        """A copy as a contiguous tensor."""
        if not self.storage.count:
            return torch.zeros(self.size, dtype=self.storage.dtype)
        # A copy, because torch warns about read-only memory.
        numbers = torch.frombuffer(bytearray(self.storage.raw), dtype=self.storage.dtype)
        return numbers.as_strided(self.size, self.stride, self.offset).contiguous()


def rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> StoredTensor:
    """``torch._utils._rebuild_tensor_v2(storage, offset, size, stride, ...)``.

    Raises:
        PickleRefusedError: the tensor reaches beyond its storage, or repeats its numbers.
    """
    if not isinstance(storage, Storage):
        raise PickleRefusedError("has a tensor without bytes")
    sizes, strides = _sizes(size), _sizes(stride)
    (first,) = _sizes((offset,))
    last = first + sum((n - 1) * step for n, step in zip(sizes, strides, strict=True))
    count = math.prod(sizes)
    # Strides of zero would make a large tensor of few numbers.
    if count > storage.count or (count and last >= storage.count):
        raise PickleRefusedError(
            f"has a tensor of {sizes} over {storage.count:,} numbers from {first:,}"
        )
    return StoredTensor(storage, first, sizes, strides)


def parameter(data: Any, *_: Any) -> Any:
    """``torch._utils._rebuild_parameter(data, requires_grad, hooks)``: its data."""
    return data


def _sizes(shape: Any) -> list[int]:
    """Check a shape or strides."""
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise PickleRefusedError("has an array of an invalid shape")
    return list(shape)
