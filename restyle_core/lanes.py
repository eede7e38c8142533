"""Parts of a batch side by side, each computed by threads of its own.

Threads that share an operator wait for the slowest of them at its end, hundreds of times in a step
of refinement. Where each has images of its own they meet once: a sixth of the time on two idle
cores, and more where other processes interrupt now the one and now the other.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")


def side_by_side(work: Callable[[slice], T], count: int, device: torch.device) -> list[T]:
    """Do something for all images, on a CPU in as many equal parts as the threads can share.

    Args:
        work: is given a part's rows; different threads call it at the same time.
        count: images, one or more.
        device: where it computes; a GPU is given all of them at once.

    Returns:
        What it made of each part, in the order of the images.

    Raises:
        Exception: the first that ``work`` raised, once no part is being computed any more.
    """
    threads = torch.get_num_threads()
    # With unequal parts the threads of the small ones would have nothing to do in the end.
    lanes = math.gcd(count, threads) if device.type == "cpu" else 1
    if lanes == 1:
        return [work(slice(0, count))]
    share = count // lanes
    parts = [slice(first, first + share) for first in range(0, count, share)]
    try:
        with ThreadPoolExecutor(
            lanes,
            thread_name_prefix="lane",
            initializer=torch.set_num_threads,
            initargs=(threads // lanes,),
        ) as pool:
            return list(pool.map(work, parts))
    finally:
        # Threads that are yet to compute begin with what was set last, by whichever thread.
        torch.set_num_threads(threads)
