"""Entry point of :mod:`restyle.pipeline.execution.ray.connection`.

A separate module, so that pickled classes do not belong to ``__main__``.
"""

from __future__ import annotations

import contextlib
import signal
import sys

from restyle.core.errors import RestyleError
from restyle.pipeline.execution.ray.connection import serve
from restyle.pipeline.isolation.child import Parent


def main(descriptor: int) -> None:
    """Serve the parent at the other end of a socket."""
    # Ctrl-C reaches the whole foreground group; the parent decides. A handler, since processes
    # that are started from this one would inherit that the signal is ignored.
    signal.signal(signal.SIGINT, lambda *_: None)
    parent = Parent(descriptor)
    with contextlib.suppress(EOFError, ConnectionError):
        try:
            serve(parent)
        except RestyleError as error:
            parent.send(error)


if __name__ == "__main__":
    main(int(sys.argv[1]))
