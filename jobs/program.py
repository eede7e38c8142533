"""The start of the ``restyle`` program."""

from __future__ import annotations

import signal
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line and exit, as :func:`restyle.jobs.cli.main`.

    Ctrl-C during the imports, which take a second, ends the process by its signal. Python's
    exception would be shown with a stack trace, and some libraries raise others in its place.
    """
    catches = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if catches:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from restyle.jobs import cli

    if catches:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    cli.main()
