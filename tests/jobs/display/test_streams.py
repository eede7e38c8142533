"""Exit codes are those of the work, whoever listens."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]

FINE, FAILING = ["kernels", "--help"], ["status", "no-such-output"]


def shell(command: list[str], redirection: str) -> subprocess.CompletedProcess[str]:
    """The command as a shell runs it; the code is the command's own, in a pipe, too."""
    line = f'"$0" -m restyle "$@" {redirection}'
    if "|" in redirection:
        line += "; exit ${PIPESTATUS[0]}"
    return subprocess.run(
        ["bash", "-c", line, sys.executable, *command], cwd=ROOT, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    "redirection",
    [
        "2>&-",
        ">&-",
        "<&-",
        "<&- >&- 2>&-",
        "| true",
        "2>&1 >/dev/null | true",
        "2>/dev/full",
        ">&- 2>/dev/full",
    ],
)
@pytest.mark.parametrize(("command", "code"), [(FINE, 0), (FAILING, 2)])
def test_nobody_listens(command: list[str], code: int, redirection: str) -> None:
    done = shell(command, redirection)
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_full_disk_under_standard_output_is_told() -> None:
    done = shell(FINE, ">/dev/full")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == "error: standard output: No space left on device"
    assert "Traceback" not in done.stderr


def test_a_terminal_that_goes_away_changes_nothing() -> None:
    ours, theirs = pty.openpty()
    code = (
        "import sys; from restyle.jobs.display import streams; streams.settle(); "
        "sys.stdin.read(1); print('out'); print('error', file=sys.stderr); sys.exit(5)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=theirs,
        stderr=theirs,
    ) as process:
        os.close(theirs)
        os.close(ours)
        process.communicate(b"x")
    assert process.returncode == 5


def test_a_closed_stream_is_no_file_of_the_commands(tmp_path: Path) -> None:
    code = (
        "import os, sys; from restyle.jobs.display import streams; streams.settle(); "
        "file = open(sys.argv[1], 'wb'); os.write(2, b'from native code'); "
        "assert os.get_inheritable(2)"
    )
    path = tmp_path / "part.parquet"
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" "$2" 2>&-', sys.executable, code, str(path)], cwd=ROOT
    )
    assert done.returncode == 0
    assert path.read_bytes() == b""
