"""Running ``restyle`` as a user does: in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

HEAVY = ("torch", "ray", "dlib", "scipy", "torchmetrics", "pandas", "s3fs")
"""Packages without which a command starts quickly."""

_TELLING = f"""
import atexit, sys
from restyle.jobs.cli import main
atexit.register(lambda: print(*(name for name in {HEAVY} if name in sys.modules)))
main()
"""


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


def heavy_imports(*arguments: object) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """Run the command to its end, and tell which of the :data:`HEAVY` packages it imported."""
    done = subprocess.run(
        [sys.executable, "-c", _TELLING, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    *printed, imported = done.stdout.splitlines(keepends=True)
    done.stdout = "".join(printed)
    return done, set(imported.split())
