"""Running ``restyle`` as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def start(*arguments: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the command at the head of a process group, as a shell would."""
    return subprocess.Popen(
        [sys.executable, "-m", "restyle.jobs.cli", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def restyle(
    *arguments: object, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    process = start(*arguments, env=env)
    try:
        out, error = process.communicate(timeout=900)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.returncode, out, error)
