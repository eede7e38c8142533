"""Killing a run, in several ways and in the middle of its work, loses no image and doubles none."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
from PIL import Image

from restyle.pipeline.accounting.verify import verify
from tests.command import restyle, start
from tests.faults.running_job import entries

IMAGES = 64
"""In units of eight: eight units."""

PATIENCE = 900


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path) -> list[object]:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:03d}.png")
    # Slow enough that units are still pending whenever something is killed.
    options = "--no-align --metrics none --reconstructions none --dtype fp32 --device cpu"
    options += " --steps 20 --batch-size 1"
    out = tmp_path / "out"
    return [
        *("invert", tmp_path / "images", "--out", out, "--model", tiny_model, "--executor", "ray"),
        *options.split(),
    ]


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process.poll() is not None:
            return
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.01)


def descendants(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def writers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Workers of a run that could still write without it; Ray's own agents are none."""
    found = []
    for each in descendants(process) if process.poll() is None else []:
        with contextlib.suppress(psutil.NoSuchProcess):
            command = " ".join(each.cmdline())
            if "MapWorker" in command or "isolation" in command or "decoding.child" in command:
                found.append(each)
    return found


def test_any_kill_then_the_same_command_then_verify(job: list[object], tmp_path: Path) -> None:
    out = tmp_path / "out"

    # Killed with SIGKILL as soon as a unit is committed.
    process = start(*job)
    wait_for(lambda: bool(entries(out)), process)
    workers = writers(process)
    assert workers
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert psutil.wait_procs(workers, timeout=60)[1] == []
    # Not before: a worker that has just lost its driver may still commit.
    first = entries(out)
    assert 1 <= len(first) <= IMAGES // 8

    # Ctrl-C goes to the whole foreground group.
    process = start(*job)
    wait_for(lambda: len(entries(out)) > len(first), process)
    interrupted = process.poll() is None
    os.killpg(process.pid, signal.SIGINT)
    _, error = process.communicate(timeout=PATIENCE)
    if interrupted:
        assert process.returncode == 130, error
        assert "run the same command again to continue" in error.splitlines()[-1]
        assert "Traceback" not in error
    second = entries(out)

    # A dead inversion worker costs nothing but time.
    process = start(*job)
    wait_for(lambda: len(entries(out)) > len(second), process)
    assert process.poll() is None, "there is nothing left to kill"
    workers = [each for each in descendants(process) if "InvertStage" in " ".join(each.cmdline())]
    assert workers
    for worker in workers:
        worker.kill()
    out_text, error = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, error
    assert f"{IMAGES} of {IMAGES} accounted for" in out_text

    # What was committed once was never written again.
    done = entries(out)
    assert len(done) == IMAGES // 8
    for earlier in (first, second):
        assert {name: done[name] for name in earlier} == earlier
    assert verify(str(out)).problems == []
    latents = pd.read_parquet(out / "latents")
    assert len(latents) == len(set(latents.image_id)) == IMAGES
    assert not list(out.rglob(".*.tmp"))

    again = restyle(*job)
    assert (again.returncode, "nothing to do" in again.stderr) == (0, True)
    assert entries(out) == done
