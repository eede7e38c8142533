"""Ray's own processes die, the one connected to it, or its workers at each start.

A run goes on, or ends and says so.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from restyle.pipeline.execution.ray import engine
from restyle.pipeline.execution.request import Request, Workers
from restyle.pipeline.inversion.run import invert_images
from restyle.pipeline.ledger.settings import InversionSettings
from restyle.pipeline.listener import Listener
from tests.faults.running_job import RunningJob, check_complete, entries, make_images

IMAGES = 64
"""In units of eight: eight units."""

OPTIONS = [
    *("--executor", "ray", "--no-align", "--metrics=none", "--reconstructions=none"),
    *("--dtype=fp32", "--device=cpu", "--steps", 24, "--batch-size", 1),
]
ONE_CORE = {"OMP_NUM_THREADS": "1"}


def daemons(job: RunningJob, name: str) -> list[psutil.Process]:
    """Ray's processes of a name that belong to a job; ``connection`` is the one connected to it."""
    own = psutil.Process(job.process.pid).children(recursive=True)
    if name == "connection":
        return [each for each in own if "restyle.pipeline.execution.ray" in each.cmdline()]
    return [
        each
        for each in own
        if each.name() == name and each.status() != psutil.STATUS_ZOMBIE  # its owner has not looked
    ]


def test_clusters_that_are_lost_are_started_again(tmp_path: Path, tiny_model: Path) -> None:
    """Three times in one run, each time by the death of another process."""
    make_images(tmp_path / "images", IMAGES)
    out = tmp_path / "out"
    job = ["invert", tmp_path / "images", "--out", out, "--model", tiny_model, *OPTIONS]
    losses: list[dict[str, int]] = []
    with RunningJob(job, env=ONE_CORE) as running:
        for name in ("raylet", "gcs_server", "connection"):
            committed = losses[-1] if losses else {}
            running.wait_for(functools.partial(entries, out, committed), f"an entry before {name}")
            (daemon,) = daemons(running, name)
            # As a fault of Ray's native code ends its process.
            daemon.send_signal(signal.SIGSEGV if name == "connection" else signal.SIGKILL)
            psutil.wait_procs([daemon], timeout=60)
            losses.append(entries(out))
            assert len(losses[-1]) < IMAGES // 8, f"all was done when the {name} was killed"
        code, printed, error = running.end()
    assert code == 0, error
    assert f"{IMAGES} of {IMAGES} accounted for" in printed
    assert error.count("trying again") == 3
    assert error.count("ended (SIGSEGV)") == 1
    assert "Traceback" not in error
    check_complete(out, IMAGES)
    after = entries(out)
    for before in losses:
        assert {unit: after[unit] for unit in before} == before, "committed units written again"


def test_a_cluster_that_is_lost_each_time_ends_the_run(tmp_path: Path, tiny_model: Path) -> None:
    make_images(tmp_path / "images", 8)
    out = tmp_path / "out"
    job = ["invert", tmp_path / "images", "--out", out, "--model", tiny_model, *OPTIONS]
    with RunningJob(job, env=ONE_CORE) as running:
        for kill in range(3):
            running.wait_for(lambda: running.workers("invert"), f"a worker before kill {kill}")
            # Its model is not loaded yet, so that no unit is ever done.
            (daemon,) = daemons(running, "raylet")
            workers = running.workers("invert")
            daemon.kill()
            psutil.wait_procs(workers, timeout=60)
        code, _, error = running.end()
    assert code == 2, error
    last = error.splitlines()[-1]
    assert last.startswith("error: 1 unit failed 3 times, last with: ")
    assert "Traceback" not in error
    assert not out.exists() or json.loads((out / "run.json").read_bytes())["state"] == "failed"


# Torch is imported by workers while they start, and by nobody else here.
DEADLY = """
import os, sys
class Deadly:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            os.kill(os.getpid(), 7)
if "default_worker.py" in " ".join(open("/proc/self/cmdline").read().split(chr(0))):
    sys.meta_path.insert(0, Deadly())
"""


def test_workers_that_die_whenever_they_start_end_the_run(tmp_path: Path, tiny_model: Path) -> None:
    make_images(tmp_path / "images", 8)
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(DEADLY)
    out = tmp_path / "out"
    job = ["invert", tmp_path / "images", "--out", out, "--model", tiny_model, *OPTIONS]
    path = os.pathsep.join(filter(None, [str(tmp_path / "site"), os.environ.get("PYTHONPATH")]))
    with RunningJob(job, env={**ONE_CORE, "PYTHONPATH": path}) as running:
        code, _, error = running.end()
    assert code == 2, error
    last = error.splitlines()[-1]
    assert "workers of the stage 'inversion' died while they started" in last
    assert "SIGBUS" in last
    assert "Traceback" not in error


class Notes(Listener):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def noted(self, line: str) -> None:
        self.lines.append(line)


def kill_a_worker_that_starts(killed: list[int], stop: threading.Event) -> None:
    """Kill the first worker of Ray below this process before it has registered."""
    while not killed and not stop.is_set():
        for process in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if any(word.endswith("default_worker.py") for word in process.cmdline()):
                    process.kill()
                    killed.append(process.pid)
                    return
        time.sleep(0.01)


def test_ray_that_never_answers_is_started_again(
    tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's start waits for ever for workers that it starts ahead, if one of them dies."""
    monkeypatch.setenv("RAY_prestart_worker_first_driver", "1")
    monkeypatch.setattr(engine, "_START_SECONDS", 30.0)
    make_images(tmp_path / "images", 8)
    settings = InversionSettings(model=str(tiny_model), align=False, metrics=(), dtype="fp32")
    request = Request(
        str(tmp_path / "images"), str(tmp_path / "out"), settings, workers=Workers(executor="ray")
    )
    killed: list[int] = []
    stop, notes = threading.Event(), Notes()
    killer = threading.Thread(target=kill_a_worker_that_starts, args=(killed, stop))
    killer.start()
    try:
        invert_images(request, notes)
    finally:
        stop.set()
        killer.join()
    assert killed
    (again,) = [line for line in notes.lines if "trying again" in line]
    assert again == "1 unit failed (Ray did not answer within 30 s); trying again"
    check_complete(tmp_path / "out", 8)


def test_no_worker_is_started_ahead() -> None:
    """So that Ray's start waits for none."""
    code = """
import psutil
from restyle.pipeline.execution.ray.environment import import_ray
import_ray()
from restyle.pipeline.execution.ray.cluster import Cluster
with Cluster(None):
    lines = [each.cmdline() for each in psutil.Process().children(recursive=True)]
print(any("raylet" in line[0] for line in lines if line))
print([line for line in lines if any(word.endswith("default_worker.py") for word in line)])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert done.stdout.splitlines() == ["True", "[]"], done.stderr
