"""How this process gets memory from the system."""

from __future__ import annotations

import ctypes
import sys

# Numbers from malloc.h.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
_LARGEST = 1 << 30


def keep_freed_memory(largest: int = _LARGEST) -> None:
    """Let glibc keep memory that is freed, for the next activation or picture of that size.

    By default it gives large blocks back at once, and takes fresh ones, which the kernel
    fills with zeros page by page: for the activations of a megapixel image that takes several
    times as long as computing them, for a small photograph a third of the time of decoding it.
    Threads other than the first would go on doing so, because theirs is another heap, of small
    blocks; so there is to be one heap for all.

    It holds for the whole process and the threads that it starts from now on. With another
    allocator, or another C library, nothing happens.

    Args:
        largest: bytes; larger blocks are given back, and what lies free at the heap's end when it
            is more than that.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, largest)
        mallopt(_TRIM_THRESHOLD, largest)
        mallopt(_ARENA_MAX, 1)
