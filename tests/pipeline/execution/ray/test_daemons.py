"""Noticing that a cluster is lost, without asking Ray."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from restyle.pipeline.execution.ray.daemons import Head, LocalDaemons
from restyle.pipeline.execution.watchdog import Stalled


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Processes that look like Ray's in a process table; the last is another session's."""
    started = {}
    for name, session in [("gcs_server", "mine"), ("raylet", "mine"), ("raylet", "other")]:
        program = tmp_path / name
        if not program.exists():
            shutil.copy("/bin/sleep", program)
        command = [f"{tmp_path / session}/{name}", "600"]
        started[f"{session} {name}"] = subprocess.Popen(command, executable=program)
    yield started
    for process in started.values():
        process.kill()
        process.wait()


@pytest.mark.parametrize("victim", ["gcs_server", "raylet"])
def test_a_dead_process_is_noticed(
    victim: str, processes: dict[str, subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    daemons = LocalDaemons(tmp_path / "mine")
    assert daemons.answer()
    processes["other raylet"].kill()
    processes["other raylet"].wait()
    assert daemons.answer()
    processes[f"mine {victim}"].kill()
    processes[f"mine {victim}"].wait()
    with pytest.raises(Stalled, match=f"Ray's {victim} ended unexpectedly"):
        daemons.answer()
    daemons.close()
    assert daemons.answer()


def test_a_head_may_be_away_for_a_moment() -> None:
    now = 0.0
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        head = Head(f"127.0.0.1:{port}", lambda: now)
        now = 1000.0
        assert head.answer()
    now = 1030.0
    assert not head.answer()
    with socket.create_server(("127.0.0.1", port)):
        assert head.answer()
    now = 1065.0
    assert not head.answer()
    now = 1071.0
    with pytest.raises(Stalled, match=rf"the cluster's head 127.0.0.1:{port} is gone"):
        head.answer()
