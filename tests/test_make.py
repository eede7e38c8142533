"""``make install`` says what it does while it does it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.command import ROOT

PIP = """#!/bin/sh
# Stands for the environment's Python: says what pip says, and how it was called.
echo "$@" >> "$0.calls"
case "$*" in *torch==*) many=3;; *) many=60;; esac
number=0
while [ $number -lt $many ]; do
  number=$((number + 1))
  echo "Collecting package$number<3,>=2 (from restyle)"
  echo "  Downloading package$number.whl (12 kB)"
done
echo "Installing collected packages: a, b, c, d"
echo "Successfully installed a b c d"
[ -z "$FAILS" ] || { echo "error: no space left" >&2; exit 1; }
"""


@pytest.fixture
def make(tmp_path: Path) -> list[str]:
    python = tmp_path / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PIP)
    python.chmod(0o755)
    return ["make", "-C", str(ROOT), "install", f"VENV={tmp_path / 'venv'}"]


def test_progress_in_lines(make: list[str], tmp_path: Path) -> None:
    done = subprocess.run(make, check=True, capture_output=True, text=True)
    shown = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    assert "1 of 2, torch==" in shown[0]
    assert shown[1] == "  unpacking 4 packages"
    assert "2 of 2, restyle" in shown[2]
    assert shown[3:6] == [
        "  25 packages found",
        "  50 packages found",
        "  unpacking 4 packages",
    ]
    assert (tmp_path / "venv" / ".installed").exists()
    calls = (tmp_path / "venv" / "bin" / "python.calls").read_text().splitlines()
    assert len([line for line in calls if "pip install" in line]) == 2


def test_progress_on_a_terminal(make: list[str]) -> None:
    assert shutil.which("script")
    command = ["script", "-qec", " ".join(make), "/dev/null"]
    # As bytes: text would take the returns for ends of lines.
    done = subprocess.run(command, check=True, capture_output=True)
    assert b"\r\x1b[K  package 60: package60" in done.stdout
    assert b"unpacking 4 packages" in done.stdout


def test_what_fails_is_not_taken_for_done(
    make: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILS", "1")
    failed = subprocess.run(make, check=False, capture_output=True, text=True)
    assert failed.returncode != 0
    assert "no space left" in failed.stderr
    assert not (tmp_path / "venv" / ".installed").exists()
