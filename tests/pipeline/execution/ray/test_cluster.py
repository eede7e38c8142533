"""Finding a cluster, without one."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest

from restyle.core.errors import FatalError, SpecError
from restyle.pipeline.execution.ray import cluster, session


def test_a_head_is_whoever_answers() -> None:
    with socket.socket() as server:
        server.bind(("0.0.0.0", 0))  # noqa: S104 (a test)
        server.listen()
        port = server.getsockname()[1]
        # Ray takes this machine's own name for an address of its network.
        assert cluster._head_of(f"127.0.0.1:{port}").endswith(f":{port}")
    with pytest.raises(FatalError, match=rf"no Ray cluster answers at 127.0.0.1:{port}: "):
        cluster._head_of(f"127.0.0.1:{port}")


def test_auto_where_no_cluster_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    services = cluster.ray._private.services
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(services, "canonicalize_bootstrap_address", lambda _: None)
    with pytest.raises(FatalError, match="no cluster runs on this machine"):
        cluster._head_of("auto")


@pytest.mark.parametrize("address", ["ray://head:10001", "http://head:8265"])
def test_addresses_of_other_services(address: str) -> None:
    with pytest.raises(SpecError, match=r"HOST:PORT .* submit"):
        cluster._connect(address)


@pytest.mark.parametrize("name", ["restyle-20261127-results", "restyle-4194305-abc", "restyle-out"])
def test_a_start_removes_no_folder_of_a_users(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FOLDERS", str(tmp_path))
    monkeypatch.setattr(cluster.ray, "init", lambda **_: None)
    node = {"Alive": True, "NodeManagerAddress": "127.0.0.1"}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [node])
    (tmp_path / name / "latents").mkdir(parents=True)
    started = cluster.Cluster(None)
    started.start()
    assert len(list(tmp_path.iterdir())) == 2
    started.stop()
    assert list(tmp_path.rglob("*")) == [tmp_path / name, tmp_path / name / "latents"]


@pytest.mark.parametrize("address", ["192.0.2.2", "10.0.0.1", "fd00::2"])
def test_a_cluster_that_others_could_reach_is_ended(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FOLDERS", str(tmp_path))
    monkeypatch.setattr(cluster.ray, "init", lambda **_: None)
    node = {"Alive": True, "NodeManagerAddress": address}
    monkeypatch.setattr(cluster.ray, "nodes", lambda: [node])
    with pytest.raises(FatalError, match=f"open to other machines at {address}.* imported before"):
        cluster.Cluster(None).start()
    assert list(tmp_path.iterdir()) == []


def test_somebody_elses_connection_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster.ray, "is_initialized", lambda: True)
    with pytest.raises(SpecError, match="connected to a Ray cluster already"):
        cluster.Cluster(None).start()
    cluster.Cluster("auto").start()


@pytest.mark.parametrize(
    ("free", "store"),
    [(64 * 2**20, 512 * 2**20), (6 * 2**30, 1536 * 2**20), (100 * 2**30, 2 * 2**30)],
)
def test_the_store_fits_into_the_shared_memory(
    free: int, store: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=free))
    assert cluster._store_bytes() == store


def test_the_store_without_shared_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_SHARED_MEMORY", tmp_path / "none")
    assert cluster._store_bytes() == 512 * 2**20
