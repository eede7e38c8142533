"""A local cluster is its user's alone: nobody else enters its folder, reaches or feeds it code."""

from __future__ import annotations

import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[4]

# Starts a cluster, tells about it, and waits; then does so once more.
CLUSTER = """
import json, os, sys
from pathlib import Path
import psutil
from restyle.pipeline.execution.ray.environment import import_ray
import_ray()
from restyle.pipeline.execution.ray.cluster import Cluster
import ray

@ray.remote
def worker():
    return {"path": sys.path, "folder": os.getcwd(), "environment": dict(os.environ)}

def listening():
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        for connection in process.net_connections("inet"):
            if connection.status == psutil.CONN_LISTEN:
                yield process.name(), connection.laddr.ip

def surroundings():
    ours = ("PYTHONPATH", "PYTHONSAFEPATH", "RAY_AUTH", "RESTYLE", "RAY_ENABLE")
    return {k: v for k, v in os.environ.items() if k.startswith(ours)}, os.getcwd()

before = surroundings()
for _ in range(int(sys.argv[1])):
    cluster = Cluster(None)
    cluster.start()
    told = {
        "worker": ray.get(worker.remote()),
        "listening": list(listening()),
        "session": str(cluster._session._folder.path),
        "address": ray.get_runtime_context().gcs_address,
        "before": before, "after": surroundings(),
    }
    print(json.dumps(told), flush=True)
    sys.stdin.readline()
    cluster.stop()
"""

# A stranger who found out where the cluster listens.
INTRUDER = """
import sys
from ray._raylet import GcsClient
print("entered", GcsClient(address=sys.argv[1]).internal_kv_keys(b"", namespace=None, timeout=60))
"""


@pytest.fixture(params=["/dev/null", None, "empty"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    if request.param == "empty":
        (tmp_path / "home").mkdir()
        return str(tmp_path / "home")
    return request.param  # type: ignore[no-any-return]


def clusters(folder: Path, home: str | None, count: int = 1) -> Generator[dict[str, Any]]:
    """What the clusters of a process tell, each while it lives."""
    environment = {**os.environ, "RAY_AUTH_MODE": "disabled", "PYTHONPATH": f":relative:{ROOT}"}
    environment.pop("HOME", None)
    if home is not None:
        environment["HOME"] = home
    with subprocess.Popen(
        [sys.executable, "-P", "-c", CLUSTER, str(count)],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            try:
                yield json.loads(line)
            finally:
                process.stdin.write("\n")
                process.stdin.flush()
    assert process.returncode == 0


def test_a_cluster_is_its_users_alone(home: str | None, tmp_path: Path) -> None:
    folder = tmp_path / "photographs"
    folder.mkdir()
    # Once after another in one process, too.
    count = 2 if home is None else 1
    found = []
    for told in clusters(folder, home, count):
        found.append(told["session"])
        assert told["before"] == told["after"]
        assert {name for name, _ in told["listening"]} >= {"gcs_server", "raylet"}
        for name, address in told["listening"]:
            place = ipaddress.ip_address(address.removeprefix("::ffff:"))
            assert place.is_loopback, (name, address)
        _check_folder(Path(told["session"]))
        _check_imports(told["worker"], folder)
    assert len(set(found)) == count
    assert not any(map(os.path.exists, found))
    if home is not None and home != "/dev/null":
        assert list(Path(home).rglob("*")) == []


def _check_folder(session: Path) -> None:
    assert session.stat().st_mode & 0o777 == 0o700
    assert (session / "token").stat().st_mode & 0o777 == 0o600
    assert len((session / "token").read_text()) == 64
    if os.getuid() == 0:
        found = subprocess.run(["ls", session], user=65534, capture_output=True, text=True)
        assert "Permission denied" in found.stderr
        read = subprocess.run(["cat", session / "token"], user=65534, capture_output=True)
        assert read.returncode


def _check_imports(worker: dict[str, Any], folder: Path) -> None:
    assert worker["environment"]["RAY_AUTH_MODE"] == "token"
    assert worker["environment"]["PYTHONSAFEPATH"] == "1"
    assert worker["environment"]["PYTHONPATH"] == str(ROOT)
    for entry in worker["path"]:
        # A finder of setuptools' has a name that is no path.
        assert Path(entry).is_absolute() or entry.startswith("__editable__")
        assert not Path(entry).is_relative_to(folder)
    assert Path(worker["folder"]).name == "work"


def test_nobody_enters_without_the_token(tmp_path: Path) -> None:
    told = next(living := clusters(tmp_path, str(tmp_path)))
    token = str(Path(told["session"]) / "token")
    for given, enters in [
        ({"RAY_AUTH_MODE": "disabled"}, False),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64}, False),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0"}, False),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": token}, True),
    ]:
        intruder = subprocess.run(
            [sys.executable, "-c", INTRUDER, told["address"]],
            env={**os.environ, **given},
            capture_output=True,
            text=True,
        )
        assert ("session_name" in intruder.stdout) == enters
        assert ("AuthenticationError" in intruder.stderr) != enters
    living.close()
