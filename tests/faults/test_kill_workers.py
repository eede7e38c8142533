"""Workers that are killed in the middle of their work: the job notices, and ends as if nothing was.

The driver's death is the subject of test_kill_driver.py, that of whole nodes of test_node_kill.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from tests.faults.running_job import Kind, RunningJob, check_complete, entries, make_images

IMAGES = 64
"""In units of eight: eight units."""

OPTIONS = ["--no-align", "--metrics=none", "--reconstructions=none", "--dtype=fp32", "--device=cpu"]

# What makes a kind of worker the one that everything waits for: large pictures that must be
# decoded, by one child, or many steps.
LOADS: dict[Kind, tuple[int, int]] = {"child": (1800, 1), "align": (1800, 1), "invert": (64, 24)}
ONE_CORE = {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize("kind", LOADS)
def test_a_killed_worker_costs_time_only(kind: Kind, tmp_path: Path, tiny_model: Path) -> None:
    side, steps = LOADS[kind]
    make_images(tmp_path / "images", IMAGES, side=side)
    out = tmp_path / "out"
    job = [
        "invert",
        tmp_path / "images",
        "--out",
        out,
        "--model",
        tiny_model,
        "--executor",
        "ray",
        *OPTIONS,
    ]
    with RunningJob([*job, "--steps", steps, "--batch-size", 1], env=ONE_CORE) as running:
        running.wait_for(lambda: entries(out), "the first entry")
        victim = running.busy(kind)
        victim.kill()
        before = entries(out)
        assert len(before) < IMAGES // 8, "everything was done when the worker was killed"
        running.wait_for(lambda: not _lives(victim), "the worker's death")
        code, printed, error = running.end()
    assert code == 0, error
    assert f"{IMAGES} of {IMAGES} accounted for" in printed
    # What Ray says of it, in colours, is in a file and not on the screen.
    assert not re.search(r"\x1b|raylet|retr(y|ies)|infinite", printed + error)
    if kind != "child":
        assert f"messages of Ray are in {out}/_ledger/ray.log" in error
        assert "A worker died or was killed" in (out / "_ledger" / "ray.log").read_text()
    check_complete(out, IMAGES)
    after = entries(out)
    assert {name: after[name] for name in before} == before, "committed units were written again"


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
