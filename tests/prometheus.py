"""A real Prometheus on loopback, for tests; they are skipped where there is none."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

VARIABLE = "PROMETHEUS_BIN"
"""Folder with ``prometheus`` and ``promtool``, where they are not on PATH."""

PATIENCE = 120.0


def program(name: str) -> str:
    """Path of ``prometheus`` or ``promtool``; skips the test where it is not there."""
    found = shutil.which(name, path=os.environ.get(VARIABLE) or None)
    if found is None:
        pytest.skip(
            f"{name} is not on PATH; Debian's package prometheus has it: apt-get download "
            f"prometheus && dpkg -x prometheus_*.deb DIR, then {VARIABLE}=DIR/usr/bin"
        )
    return found


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


@dataclass(frozen=True)
class Prometheus:
    """A server that scrapes one target every 200 milliseconds."""

    address: str

    def ask(self, path: str, **query: object) -> Any:
        """Ask its API; the answer's data."""
        url = f"{self.address}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (loopback)
            return json.load(answer)["data"]

    def values(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series of an expression now."""
        result = self.ask("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in result]

    def wait_for(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Wait until an expression has data, and return it."""
        deadline = time.monotonic() + PATIENCE
        while not (found := self.values(expression)):
            assert time.monotonic() < deadline, f"{expression} has no data"
            time.sleep(0.1)
        return found


@contextlib.contextmanager
def prometheus(folder: Path, target: int) -> Iterator[Prometheus]:
    """Run a server on loopback while the context is open.

    Args:
        folder: for its files.
        target: port on loopback that it scrapes.
    """
    binary, port = program("prometheus"), free_port()
    folder.mkdir(parents=True, exist_ok=True)
    settings = folder / "prometheus.yml"
    settings.write_text(
        "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
        "scrape_configs:\n"
        "  - job_name: restyle\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
    )
    server = Prometheus(f"http://127.0.0.1:{port}")
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={settings}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            assert process.poll() is None, (folder / "log").read_text()
            with contextlib.suppress(OSError):
                server.ask("targets")
                break
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield server
    finally:
        process.terminate()
        process.wait(timeout=30)
