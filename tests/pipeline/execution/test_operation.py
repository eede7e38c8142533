"""An operation from another package is run, killed, resumed, proven, compacted and asked."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.other_package import install

ROOT = Path(__file__).resolve().parents[3]

RUN = """
import sys
from pathlib import Path
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.run import conduct
from restyle.pipeline.listener import Listener
from tests.pipeline.execution.squares import SquareTask
out, executor = sys.argv[1:]
workers = Workers(executor=executor)
outcome = conduct(lambda: SquareTask(Path(out), 600, workers), Listener())
print(outcome.images, outcome.summary.images, outcome.summary.pending_images)
"""


def run(site: Path, *command: object, die_at: str = "") -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(site), str(ROOT)))
    env = {**os.environ, "PYTHONPATH": path, "SQUARES_DIE_AT": die_at}
    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=env,
        cwd=site,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture
def site(tmp_path: Path) -> Path:
    place = "tests.pipeline.execution.squares:SQUARES"
    return install(tmp_path / "site", "toy", "", {"restyle.operations": {"squares": place}})


def test_killed_and_resumed(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    killed = run(site, "-c", RUN, out, "local", die_at="300")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert list(out.glob("_ledger/unit-*.json"))
    before = run(site, "-m", "restyle", "verify", out)
    assert before.returncode == 1
    assert "are not done; run the same command again" in before.stdout
    resumed = run(site, "-c", RUN, out, "local")
    assert resumed.returncode == 0, resumed.stderr
    images, total, pending = map(int, resumed.stdout.split())
    assert (total, pending) == (600, 0)
    assert 0 < images < 600
    assert run(site, "-c", RUN, out, "local").stdout.split() == ["0", "600", "0"]
    check(site, out)


def test_on_ray(site: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ran = run(site, "-c", RUN, out, "ray")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["600", "600", "0"]
    check(site, out)


def check(site: Path, out: Path) -> None:
    """Every number once, by the commands that know the protocol alone."""
    compacted = run(site, "-m", "restyle", "compact", out)
    assert compacted.returncode == 0, compacted.stderr
    assert len(list(out.glob("_ledger/pack-*.json"))) == 1
    proof = run(site, "-m", "restyle", "verify", out)
    assert (proof.returncode, proof.stdout.splitlines()[-1]) == (0, "clean"), proof.stdout
    squares = pd.read_parquet(out / "squares").square
    assert sorted(squares) == [number**2 for number in range(600)]
    asked = run(site, "-m", "restyle", "query", out, "select sum(square) as s from squares")
    assert str(sum(number**2 for number in range(600))) in asked.stdout
    status = run(site, "-m", "restyle", "status", out)
    assert "600 of 600 accounted for" in status.stdout, status.stderr
    runs = run(site, "-m", "restyle", "runs", out)
    assert "complete" in runs.stdout
    refused = run(site, "-m", "restyle", "invert", site, "--out", out)
    assert refused.returncode == 2
    assert "holds squares; choose another --out" in refused.stderr
