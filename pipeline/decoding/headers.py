"""How large images are by their headers, read in a child process, as everything of theirs is.

The same module is the child: ``python -m restyle.pipeline.decoding.headers FD``.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterable, Iterator

from restyle.core.errors import RejectError
from restyle.core.imaging.decoding import open_image
from restyle.pipeline.isolation.child import Parent, confine, limit_memory
from restyle.pipeline.isolation.process import GRACE, ChildProcess

_MODULE = "restyle.pipeline.decoding.headers"
_SECONDS = 10
_MEMORY = 512 * 2**20


def megapixels_of(files: Iterable[bytes]) -> Iterator[float | None]:
    """Yield the megapixels of each encoded image; None for what is none, or ends the child."""
    child: ChildProcess | None = None
    try:
        for data in files:
            child = child or ChildProcess(_MODULE, None)
            try:
                child.wait_ready(_SECONDS + GRACE)
                child.send(data)
                yield child.receive(_SECONDS + GRACE)
            except (EOFError, OSError):
                child.stop()
                child = None
                yield None
    finally:
        if child is not None:
            child.stop()


def _serve(parent: Parent) -> None:
    parent.receive()
    limit_memory(_MEMORY)
    parent.send(None)
    while True:
        data: bytes = parent.receive()
        # As in the sandbox: the default action of the signal ends this process.
        signal.alarm(_SECONDS)
        found: float | None = None
        with contextlib.suppress(RejectError), open_image(data) as image:
            found = image.width * image.height / 1e6
        signal.alarm(0)
        parent.send(found)


if __name__ == "__main__":
    with contextlib.suppress(EOFError, ConnectionError):
        confine()
        _serve(Parent(int(sys.argv[1])))
