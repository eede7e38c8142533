"""Parallel computation of parts of a batch on a CPU.

Threads that share an operator synchronise at its end, hundreds of times in a refinement step, and
each time wait for the slowest of them. Threads with separate images synchronise once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

# Smallest side of generated images in pixels. Operators on smaller images take less time than
# launching them from two Python threads.
_LARGE = 256


def parallel_parts(count: int, side: int) -> int:
    """Number of equal parts in which a batch on a CPU is computed.

    Args:
        count: number of images, at least 1.
        side: of the generated images in pixels.

    Returns:
        The greatest common divisor of images and threads, so that all threads finish together.
    """
    return math.gcd(count, torch.get_num_threads()) if side >= _LARGE else 1


def in_parallel(work: Callable[[slice], T], count: int, parts: int) -> list[T]:
    """Process the images of a batch in parallel parts.

    Args:
        work: called with the rows of a part, in different threads.
        count: number of images, a multiple of ``parts``.
        parts: number of parts, at most the number of torch's threads.

    Returns:
        The results of the parts, in the order of the images.

    Raises:
        Exception: the first exception of ``work``, after all parts have ended.
    """
    if parts == 1:
        return [work(slice(0, count))]
    rows = _rows(count, count // parts)
    return _in_threads(work, rows, parts, torch.get_num_threads() // parts)


def in_groups(work: Callable[[slice], T], count: int, size: int, side: int) -> list[T]:
    """Process the images of a batch in groups, each as if there were no other.

    A thread computes a group of small images alone, so that its results depend neither on the
    batch nor on the number of threads. Large images get all threads, a group after another.

    Args:
        work: called with the rows of a group, in different threads.
        count: number of images, at least 1.
        size: of a group; the last one may be smaller.
        side: of the generated images in pixels.

    Returns:
        The results of the groups, in the order of the images.

    Raises:
        Exception: the first exception of ``work``, after all groups have ended.
    """
    rows, threads = _rows(count, size), torch.get_num_threads()
    if side >= _LARGE or threads == 1:
        return [work(group) for group in rows]
    return _in_threads(work, rows, min(threads, len(rows)), 1)


def _rows(count: int, size: int) -> list[slice]:
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def _in_threads(work: Callable[[slice], T], rows: list[slice], workers: int, each: int) -> list[T]:
    threads = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(
            workers,
            thread_name_prefix="part",
            initializer=torch.set_num_threads,
            initargs=(each,),
        ) as pool:
            return list(pool.map(work, rows))
    finally:
        # Threads that have not computed yet take the value that any thread set last.
        torch.set_num_threads(threads)
