"""``restyle submit`` on a real Ray cluster of this machine, with its job server and a token."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from restyle.jobs.commands.operate.submit import submission_prefix
from restyle.pipeline.execution.ray.job_server import JobServer
from tests.command import ROOT, restyle, start

_UP_WITHIN = 180.0


@pytest.fixture(scope="module")
def head() -> Iterator[tuple[str, dict[str, str]]]:
    """Address of a head node's job server, and the variables that let one in."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    # Short, for the sockets in it; and Ray notes the newest cluster of a machine in there.
    folder = tempfile.mkdtemp(prefix="rs-", dir="/tmp")
    token = secrets.token_hex(16)
    access = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("ray")), "start", "--head", "--block", "--port=0",
            "--num-cpus=2", "--include-dashboard=true", f"--dashboard-port={port}",
            f"--temp-dir={folder}", "--disable-usage-stats", "--object-store-memory=200000000",
        ],
        env={
            **os.environ, **access, "HOME": folder, "RAY_TMPDIR": folder, "OMP_NUM_THREADS": "1",
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        _wait(address, token, process)
        yield address, access
    finally:
        # At once: asked to end, it waits half a minute for agents that are busy with each other.
        doomed = [process, *psutil.Process(process.pid).children(recursive=True)]
        for each in doomed:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.kill()
        process.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(address: str, token: str, process: subprocess.Popen[bytes]) -> None:
    request = urllib.request.Request(  # noqa: S310 (loopback)
        f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}
    )
    until = time.monotonic() + _UP_WITHIN
    while time.monotonic() < until and process.poll() is None:
        try:
            urllib.request.urlopen(request, timeout=10).close()  # noqa: S310
        except (urllib.error.URLError, OSError):
            time.sleep(0.5)
        else:
            return
    raise AssertionError("Ray's head node does not come up")


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = tmp_path_factory.mktemp("job")
    (folder / "photos").mkdir()
    shutil.copy(ROOT / "samples" / "photos" / "smile.jpg", folder / "photos")
    (folder / "job.toml").write_text(
        '[input]\nsource = "photos"\n[output]\nout = "out"\n'
        f'[model]\nname = "{tiny_model}"\n'
        '[inversion]\nsteps = 1\nmetrics = ["l2"]\n[workers]\ndevice = "cpu"\n',
        encoding="utf-8",
    )
    return folder / "job.toml"


def test_a_job_on_a_cluster(head: tuple[str, dict[str, str]], spec: Path) -> None:
    address, access = head
    command = ["submit", spec, "--address", address]
    out = spec.parent / "out"
    first, second, third = (f"{submission_prefix(str(out))}{number}" for number in (1, 2, 3))

    stranger = restyle(*command, env={"RAY_AUTH_TOKEN": "wrong"})
    assert stranger.returncode == 2
    assert "asks for a token" in stranger.stderr

    submitted = restyle(*command, "--no-follow", env=access)
    assert submitted.returncode == 0, submitted.stderr
    assert f"{first} submitted" in submitted.stderr

    again = restyle(*command, "--no-follow", env=access)
    assert again.returncode == 2
    assert first in again.stderr

    # Ctrl-C, and a terminal that closes.
    for stop, code in ((signal.SIGINT, 130), (signal.SIGHUP, -signal.SIGHUP)):
        follower = start(*command, "--attach", env=access)
        assert follower.stdout is not None
        assert follower.stdout.readline()
        follower.send_signal(stop)
        _, error = follower.communicate(timeout=60)
        assert follower.returncode == code
        assert code != 130 or f"{first} goes on. Follow it with: " in error

    whole = restyle(*command, "--attach", env=access)
    assert whole.returncode == 0, whole.stdout + whole.stderr
    assert "1 of 1 accounted for" in whole.stdout
    assert whole.stderr.endswith(f"{first}: succeeded\n")
    verified = restyle("verify", out)
    assert (verified.returncode, verified.stdout.splitlines()[-1]) == (0, "clean")

    # Nothing is new: as a schedule would run it.
    idle = restyle(*command, env=access)
    assert idle.returncode == 0
    assert "nothing to do" in idle.stdout
    status = restyle(*command, "--status", env=access)
    assert status.stdout.startswith(f"{second}: succeeded")

    shutil.copy(ROOT / "samples" / "photos" / "party.webp", spec.parent / "photos")
    assert restyle(*command, "--no-follow", env=access).returncode == 0
    stopped = restyle(*command, "--stop", env=access)
    assert (stopped.returncode, stopped.stdout) == (0, f"{third}: stopped\n")


def test_nothing_of_the_token_is_left(head: tuple[str, dict[str, str]], spec: Path) -> None:
    address, access = head
    os.environ.update(access)
    try:
        jobs = JobServer(address).jobs("restyle-")
        text = "".join(JobServer(address).log(job.submission) for job in jobs) + repr(jobs)
    finally:
        for name in access:
            del os.environ[name]
    files = [path for path in spec.parent.rglob("*") if path.is_file()]
    assert jobs
    assert files
    assert access["RAY_AUTH_TOKEN"] not in text
    assert not any(access["RAY_AUTH_TOKEN"].encode() in path.read_bytes() for path in files)
