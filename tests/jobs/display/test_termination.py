"""SIGTERM and SIGHUP end what a display shows as Ctrl-C does; what nohup ignores stays ignored."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.command import ROOT

# A second signal comes while the folder is removed.
_SCRIPT = """
import os, signal, sys, tempfile
from restyle.jobs.display.terminal import error_console
from restyle.jobs.display.termination import EndableDisplay
from restyle.pipeline.listener import Progress

name, ignored = sys.argv[1], sys.argv[2] == "ignored"
ending = getattr(signal, name)
signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else signal.SIG_DFL)
try:
    with error_console() as errors, EndableDisplay(errors) as display:
        # As Ray does at its start.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        display.advanced(Progress(done=1, total=2, rejects=0, seconds=1.0))
        os.kill(os.getpid(), ending)
        print("went on")
except KeyboardInterrupt:
    if ending == signal.SIGHUP:
        os.kill(os.getpid(), ending)
    print("cleaned up")
"""


@pytest.mark.parametrize(
    ("ending", "before", "said"),
    [
        ("SIGTERM", "default", "cleaned up"),
        ("SIGTERM", "ignored", "cleaned up"),
        ("SIGHUP", "default", "cleaned up"),
        ("SIGHUP", "ignored", "went on"),
    ],
)
def test_signals_that_end_a_run(ending: str, before: str, said: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", _SCRIPT, ending, before],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stdout) == (0, f"{said}\n"), run.stderr
