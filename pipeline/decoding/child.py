"""The child process of the sandbox: ``python -m restyle.pipeline.decoding.child FD FD``.

A file of its own, so that what the child pickles does not belong to its ``__main__``.
"""

from __future__ import annotations

import mmap
import os
import pickle
import resource
import signal
import sys
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from PIL import Image

from restyle.core.devices.allocator import keep_freed_memory
from restyle.core.errors import FatalError, RejectError
from restyle.pipeline.decoding.crops import CropSettings, CutOut, cut_out
from restyle.pipeline.decoding.sandbox import Answer, SharedArea

# Bytes that stay with this process between two files.
_KEPT = 64 * 2**20


def serve(connection: Connection, memory: int) -> None:
    """Answer one parent until it closes the connection.

    Args:
        connection: to the parent.
        memory: descriptor of the memory that is shared with it.
    """
    settings: CropSettings = pickle.loads(connection.recv_bytes())  # noqa: S301 (our own parent)
    keep_freed_memory(_KEPT)
    area = SharedArea(memory, settings.size)
    os.close(memory)
    connection.send_bytes(pickle.dumps(_prepare(settings)))
    _limit_memory(settings.memory_limit)
    while True:
        try:
            files: list[bytes] = pickle.loads(connection.recv_bytes())  # noqa: S301 (the same)
        except EOFError:
            return
        try:
            reply: Answer | FatalError = answer(files, settings, area)
        except FatalError as error:
            reply = error
        connection.send_bytes(pickle.dumps(reply, protocol=5))


def _prepare(settings: CropSettings) -> Answer | FatalError:
    """Load what is needed while the other processes start; nothing or what is wrong with it."""
    from restyle.core.faces.alignment import find_landmarks
    from restyle.core.imaging.decoding import MIN_SIDE

    # Opening the first image would do it, and belongs to no image's time.
    Image.init()
    try:
        if settings.align:
            find_landmarks(Image.new("RGB", (MIN_SIDE, MIN_SIDE)))
    except FatalError as error:
        return error
    return Answer([], np.empty((0, 4, 2)), [])


def answer(files: Sequence[bytes], settings: CropSettings, area: SharedArea) -> Answer:
    """Cut out a group of files.

    Args:
        files: at most as many as the area has room for crops.
        settings: what to make of them; a file that takes longer ends this process.
        area: where to put the crops and the number of the file in work.

    Raises:
        FatalError: alignment cannot work at all.
    """
    outcomes: list[int | RejectError] = []
    crops: list[CutOut] = []
    for index, data in enumerate(files):
        area.current = index
        # The default action of SIGALRM ends the process even inside native code, and needs no
        # parent that is still alive.
        signal.alarm(settings.time_limit)
        try:
            found = cut_out(data, settings)
        except RejectError as error:
            outcomes.append(error)
            continue
        finally:
            signal.alarm(0)
        outcomes.append(len(found))
        for place, crop in zip(area.crops[len(crops) :], found, strict=False):
            place[:] = crop.pixels
        crops += found
    quads = np.stack([crop.quad for crop in crops]) if crops else np.empty((0, 4, 2))
    return Answer(outcomes, quads, [crop.pixels for crop in crops[len(area.crops) :]])


def _limit_memory(budget: int) -> None:
    """Let allocations fail beyond what is in use now and a budget, in bytes.

    Whoever is ended for want of memory is chosen by the system, and rarely well; an allocation
    that fails is a reject.
    """
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * mmap.PAGESIZE
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = used + budget
    if most != resource.RLIM_INFINITY:
        limit = min(limit, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))


if __name__ == "__main__":
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # Ctrl-C goes to the whole foreground group; the parent decides when a child ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))
