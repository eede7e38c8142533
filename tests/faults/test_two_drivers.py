"""Two runs on one output at once: the second is refused, and a dead one is in nobody's way."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from restyle.pipeline.storage.claim import Claim
from restyle.pipeline.storage.filesystem import Storage, local_path, open_storage
from tests.command import start
from tests.s3_server import faulty_s3
from tests.warm_command import restyle

PATIENCE = 300
IMAGES = 24


@pytest.fixture(params=["local", "s3"])
def out(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    if request.param == "local":
        yield str(tmp_path / "out")
        return
    from s3fs import S3FileSystem

    with faulty_s3(monkeypatch):
        S3FileSystem.clear_instance_cache()
        yield "s3://bucket/some run"
        S3FileSystem.clear_instance_cache()


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path, out: str) -> list[object]:
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    for index in range(IMAGES):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{index:03d}.png")
    options = "--no-align --metrics none --reconstructions none --dtype fp32 --device cpu --steps 2"
    return [
        *("invert", tmp_path / "images", "--out", out, "--model", tiny_model, "--executor", "ray"),
        *options.split(),
    ]


def claims(storage: Storage) -> list[Claim]:
    found = []
    for name in storage.sizes("_ledger"):
        if name.startswith("_ledger/driver-"):
            with contextlib.suppress(FileNotFoundError):
                found.append(Claim.model_validate_json(storage.read(name)))
    return found


def wait_until_held(storage: Storage, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not any(c.state == "held" and c.pid == process.pid for c in claims(storage)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "it never got the output"
        time.sleep(0.02)


def kill(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The driver alone; its workers find out by themselves."""
    children = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    return children


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")
def test_the_second_is_refused_and_a_dead_first_is_not_waited_for(
    job: list[object], out: str
) -> None:
    storage = open_storage(out)
    first = start(*job)
    wait_until_held(storage, first)
    for command in (job, ["compact", out]):
        second = restyle(*command)
        assert second.returncode == 2, second.stdout + second.stderr
        (line,) = second.stderr.splitlines()
        assert f"{out} is in use by another run: process {first.pid} on " in line
    # Refused, and gone without a trace; the first still has it.
    assert [claim.pid for claim in claims(storage)] == [first.pid]
    assert first.poll() is None
    children = kill(first)
    assert [claim.pid for claim in claims(storage)] == [first.pid]

    # On the store without computing, to save the suite a minute; the lock is the same.
    is_local = local_path(out) is not None
    third = restyle(*(job if is_local else ["plan", job[1], "--out", out]))
    assert third.returncode == 0, third.stderr
    assert "waiting up to" not in third.stderr
    assert claims(storage) == []
    if is_local:
        proof = restyle("verify", out)
        assert proof.returncode == 0, proof.stdout + proof.stderr
        assert f"{IMAGES} inputs = {IMAGES} with faces" in proof.stdout
    # Ray's own daemons may take a minute to find out that they are alone.
    _, alive = psutil.wait_procs(children, timeout=5)
    for process in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
