"""The start of the program: Ctrl-C while its modules are imported, and after that."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from restyle.jobs import cli, program
from tests.command import ROOT

INTERRUPTED = """
import os, signal, sys
from restyle.jobs import program

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
program.main()
"""


@pytest.mark.parametrize("module", ["restyle.jobs.cli", "typer", "restyle.jobs.spec.options"])
def test_ctrl_c_during_an_import_ends_it_without_a_trace(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(module=module)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    # A shell makes it 130.
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.parametrize("handler", [signal.default_int_handler, signal.SIG_IGN])
def test_afterwards_ctrl_c_means_what_it_meant(
    handler: signal.Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    monkeypatch.setattr(cli, "main", lambda: found.append(signal.getsignal(signal.SIGINT)))
    before = signal.signal(signal.SIGINT, handler)
    try:
        program.main()
    finally:
        signal.signal(signal.SIGINT, before)
    assert found == [handler]
