"""The convolutional detector in a process of its own, for processes that decode photographs.

Torch takes 200 MB, as many as the pixels of 50 megapixels do. This process, ``python -m
restyle.pipeline.decoding.face_search FD``, sees copies of about a megapixel, never the photograph.
"""

from __future__ import annotations

import contextlib
import resource
import sys

import numpy as np
import numpy.typing as npt

from restyle.core.devices.allocator import keep_freed_memory
from restyle.core.errors import FatalError, RestyleError
from restyle.core.faces.cnn import Square, search_here
from restyle.pipeline.decoding.crops import TIME_LIMIT
from restyle.pipeline.isolation.child import Parent, confine, limit_memory
from restyle.pipeline.isolation.process import ChildProcess, ending

_MODULE = "restyle.pipeline.decoding.face_search"

# Bytes beyond what the loaded libraries take; a search of a megapixel needs a tenth of it.
_MEMORY = 2**30

# A search that ends its process is repeated in another: the first may have been ended from outside.
_TRIES = 2

_BLANK = np.full((64, 64, 3), 128, np.uint8)


class FaceSearch:
    """:func:`restyle.core.faces.cnn.search_here` in a process, which starts with the first search.

    Not thread-safe.
    """

    def __init__(self) -> None:
        self._child: ChildProcess | None = None

    def __call__(self, pixels: npt.NDArray[np.uint8], least: float) -> list[Square]:
        """Search pixels.

        Raises:
            FatalError: the network cannot be loaded, or its process ends again and again.
        """
        for _ in range(_TRIES):
            child = self._child = self._child or ChildProcess(_MODULE, None)
            try:
                child.wait_ready(TIME_LIMIT)
                child.send((pixels, least))
                found: list[Square] = child.receive(TIME_LIMIT)
                return found
            except (EOFError, OSError):
                self._child = None
                code = child.stop()
        if not child.was_ready:
            raise child.not_started(code, "searches faces")
        raise FatalError(
            f"the process that searches faces ended {_TRIES} times ({ending(code)}); "
            "free memory, or use --detector hog"
        )

    def close(self) -> None:
        """End the process."""
        if self._child is not None:
            self._child.stop()
            self._child = None


def serve(parent: Parent) -> None:
    """Search what a parent sends until it closes the connection."""
    parent.receive()
    # The parent's limit is for its photographs.
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    keep_freed_memory()
    try:
        search_here(_BLANK, 0.0)
    except RestyleError as error:
        parent.send(error)
        return
    limit_memory(_MEMORY)
    parent.send(None)
    while True:
        parent.send(search_here(*parent.receive()))


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):
        confine()
        serve(Parent(int(sys.argv[1])))
