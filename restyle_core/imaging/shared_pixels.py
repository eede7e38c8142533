"""The memory of a Pillow image as an array, without a copy where Pillow allows it."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
from PIL import Image

_COPIED_ROWS = 256

_ONE_BLOCK = 2**30


def hold_in_one_block() -> None:
    """Let Pillow hold each image that is made from now on in one block, which can be shared.

    By default it holds more than 16 MB in several blocks. For the whole process.
    """
    # The documented way, PILLOW_BLOCK_SIZE, only works before Pillow is imported.
    Image.core.set_block_size(_ONE_BLOCK)  # type: ignore[attr-defined]


class _ArrowArray(ctypes.Structure):
    """``struct ArrowArray`` of Arrow's C data interface."""


_ArrowArray._fields_ = [
    *((name, ctypes.c_int64) for name in ("length", "null_count", "offset")),
    *((name, ctypes.c_int64) for name in ("n_buffers", "n_children")),
    ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_ArrowArray))),
    ("dictionary", ctypes.c_void_p),
    ("release", ctypes.c_void_p),
    ("private_data", ctypes.c_void_p),
]

_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.argtypes = [ctypes.py_object, ctypes.c_char_p]
_pointer_of.restype = ctypes.c_void_p


class _Exported:
    """Keeps the memory alive for the array that is made of it."""

    def __init__(self, capsule: object, size: tuple[int, int]) -> None:
        self._capsule = capsule
        array = _ArrowArray.from_address(_pointer_of(capsule, b"arrow_array"))
        address = array.children[0].contents.buffers[1]
        shape = (size[1], size[0], 4)
        self.__array_interface__ = {
            "version": 3,
            "typestr": "|u1",
            "shape": shape,
            "data": (address, True),
        }


def shared_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """The pixels of an RGB image as Pillow holds them, [h, w, 4] with an unused fourth value.

    Read-only. Nothing is copied if the image lies in one block; see :func:`hold_in_one_block`.

    Args:
        image: of mode ``RGB``; it must not be changed while the array is in use.
    """
    try:
        _, capsule = image.__arrow_c_array__()
    except (ValueError, MemoryError):
        return _copied(image)
    return np.asarray(_Exported(capsule, image.size))


def _copied(image: Image.Image) -> npt.NDArray[np.uint8]:
    # In parts, because Pillow makes two copies of what it gives.
    pixels = np.empty((image.height, image.width, 4), np.uint8)
    for top in range(0, image.height, _COPIED_ROWS):
        bottom = min(top + _COPIED_ROWS, image.height)
        rows = image.crop((0, top, image.width, bottom))
        flat = np.frombuffer(rows.tobytes("raw", "RGBX"), np.uint8)
        pixels[top:bottom] = flat.reshape(bottom - top, image.width, 4)
    return pixels
