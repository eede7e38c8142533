"""Noticing that a cluster is lost, without asking Ray."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
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


# A child with a child of its own, and one that has ended; the parent's name looks like a field.
FAMILY = """
import subprocess, sys
from restyle.pipeline.execution.ray.daemons import end_descendants
open("/proc/self/comm", "w").write("a) S 1 (b")
ended = subprocess.Popen(["true"])
child = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE)
print(child.pid, int(child.stdout.readline()), flush=True)
sys.stdin.readline()
end_descendants()
print("ended", flush=True)
sys.stdin.readline()
"""


def test_descendants_end_with_their_ancestor() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FAMILY], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin
        assert process.stdout
        family = [psutil.Process(int(pid)) for pid in process.stdout.readline().split()]
        other = subprocess.Popen(["sleep", "600"])
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ended\n"
        assert all(not each.is_running() or each.status() == "zombie" for each in family)
        assert other.poll() is None
        other.kill()
        other.wait()
        process.stdin.close()
    assert process.returncode == 0


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
