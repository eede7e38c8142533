"""Settings of glibc's memory allocator."""

from __future__ import annotations

import ctypes
import sys

# Constants of malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST = 1 << 30


def keep_freed_memory(largest: int = _LARGEST) -> None:
    """Let glibc reuse freed memory instead of returning it to the system.

    By default glibc unmaps large blocks at once and maps new ones, which the kernel clears page by
    page. That takes several times as long as computing the activations of a megapixel image, and a
    third of the time of decoding a small photograph. Other threads' heaps always do so, so all
    threads share one heap.

    The setting applies to the whole process and its later threads. It has no effect with another
    allocator or C library.

    Args:
        largest: bytes; larger blocks are unmapped when freed, and so is free memory beyond this
            size at the end of the heap.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, largest)
        mallopt(_TRIM_THRESHOLD, largest)
        mallopt(_ARENA_MAX, 1)


def return_freed_memory() -> None:
    """Give free memory back to the system now, in spite of :func:`keep_freed_memory`."""
    if not sys.platform.startswith("linux"):
        return
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)
