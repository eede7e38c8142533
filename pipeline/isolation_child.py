"""The child process of :mod:`pipeline.isolation`: ``python -m pipeline.isolation_child FD``.

A file of its own, so that what the child pickles does not belong to its ``__main__``.
"""

from __future__ import annotations

import signal
import sys
from multiprocessing.connection import Connection

from pipeline.isolation import serve

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    # Ctrl-C goes to the whole foreground group; the parent decides when a child ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])))
