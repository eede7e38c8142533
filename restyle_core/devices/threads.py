"""Parts of a batch side by side on a CPU, each computed by threads of its own.

Threads that share an operator wait for the slowest of them at its end, hundreds of times in a step
of refinement: on cores that have other work in between, now the one and now the other is held up.
Where each has images of its own they meet once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")

# Side of generated images in pixels. Operators on smaller ones take less time than it takes two
# threads of Python to begin one each.
_LARGE = 256


def lanes(count: int, side: int) -> int:
    """How many parts a batch on a CPU is computed in.

    Args:
        count: images, one or more.
        side: of the generated images in pixels.

    Returns:
        As many as both the images and the threads can be shared equally by: with unequal parts the
        threads of the small ones would have nothing to do in the end.
    """
    return math.gcd(count, torch.get_num_threads()) if side >= _LARGE else 1


def side_by_side(work: Callable[[slice], T], count: int, parts: int) -> list[T]:
    """Do something for all images, in parts at the same time.

    Args:
        work: is given a part's rows; different threads call it.
        count: images, a multiple of ``parts``.
        parts: how many, not more than there are threads to compute with.

    Returns:
        What it made of each part, in the order of the images.

    Raises:
        Exception: the first that ``work`` raised, once no part is being computed any more.
    """
    if parts == 1:
        return [work(slice(0, count))]
    threads, share = torch.get_num_threads(), count // parts
    rows = [slice(first, first + share) for first in range(0, count, share)]
    try:
        with ThreadPoolExecutor(
            parts,
            thread_name_prefix="lane",
            initializer=torch.set_num_threads,
            initargs=(threads // parts,),
        ) as pool:
            return list(pool.map(work, rows))
    finally:
        # Threads that are yet to compute begin with what was set last, by whichever thread.
        torch.set_num_threads(threads)
