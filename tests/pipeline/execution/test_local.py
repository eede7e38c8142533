"""Units that run in this process: the environment in which they compute."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# Reads what OpenMP will read, before torch has loaded it.
PROGRAM = """
import os, sys
from types import SimpleNamespace
from restyle.pipeline.execution.local import run_here
assert not list(run_here(SimpleNamespace(stages=(), threads=1), []))
print(os.environ["OMP_WAIT_POLICY"], os.environ["GOMP_SPINCOUNT"], "torch" in sys.modules)
"""


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "passive 10000 False"),
        ({"GOMP_SPINCOUNT": "7"}, "passive 7 False"),
        ({"OMP_WAIT_POLICY": "active"}, "active 10000 False"),
    ],
)
def test_idle_threads_leave_the_cores_to_alignment(given: dict[str, str], expected: str) -> None:
    plain = {name: value for name, value in os.environ.items() if name[:4] not in ("OMP_", "GOMP")}
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=plain | given, capture_output=True, text=True
    )
    assert ended.stdout.strip() == expected, ended.stderr
