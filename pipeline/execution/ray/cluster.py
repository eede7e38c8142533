"""The Ray cluster of a run: a local one that ends with the run, or an existing one."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ray
import ray._private.services

from restyle.core.errors import FatalError, SpecError, reason_of
from restyle.pipeline.execution.job import one_line
from restyle.pipeline.execution.pools import ALIGN, Offer
from restyle.pipeline.execution.ray.daemons import Head, LocalDaemons, end_descendants
from restyle.pipeline.execution.ray.environment import LOOPBACK_SWITCH
from restyle.pipeline.execution.ray.session import Session, working_in
from restyle.pipeline.isolation.environment import SAFE_PATH

# Environment variables passed to workers on other machines.
_PASSED_ON = (
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO",
    "OMP_WAIT_POLICY",
    "GOMP_SPINCOUNT",
    "MALLOC_ARENA_MAX",
)
_PASSED_ON_PREFIX = "RESTYLE_"

_ANSWER_SECONDS = 10.0

# Size of the object store. Ray Data uses half of it, and a unit of 256 crops takes 50 MB: with less
# than the maximum, units wait while cores are idle. Linux limits shared memory to half of the RAM.
_LEAST_STORE, _MOST_STORE = 512 * 2**20, 2 * 2**30
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (only asked for its size)


class Cluster:
    """A connection to Ray; a context manager.

    Args:
        address: ``HOST:PORT`` of a cluster's head; ``auto`` for the cluster that this machine
            belongs to; None for a local cluster that ends with the context.
    """

    def __init__(self, address: str | None) -> None:
        self.address = address
        self._session: Session | None = None
        self._daemons: LocalDaemons | Head | None = None

    def __enter__(self) -> Cluster:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def is_local(self) -> bool:
        """Whether the cluster is local and ends with the context."""
        return self.address is None

    def start(self) -> None:
        """Start a local cluster or connect to an existing one, unless connected already.

        Raises:
            SpecError: this process is connected to another cluster, or the address is invalid.
            FatalError: the local cluster does not start, or no cluster responds at the address.
        """
        if ray.is_initialized():
            if self.address is None and self._session is None:
                raise SpecError(
                    "this process is connected to a Ray cluster already; use it with "
                    'Workers(address="auto"), or leave it with ray.shutdown()'
                )
            return
        try:
            if self.address is None:
                self._daemons = LocalDaemons(self._start_local().folder)
            else:
                self._daemons = Head(_connect(self.address))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Disconnect; end a local cluster and delete its files, leave an existing one running."""
        ray.shutdown()
        if self._daemons is not None:
            self._daemons.close()
            self._daemons = None
        if self._session is not None:
            self._session.remove()
            self._session = None

    def kill(self) -> None:
        """Kill the processes of a local cluster, when this process is about to end.

        In contrast to :meth:`stop` it makes no call to Ray, which could hang or crash.
        """
        if self.is_local:
            end_descendants()

    def answers(self) -> bool:
        """Whether the cluster responds; a call to an unresponsive one would block for long.

        Raises:
            Stalled: the cluster is lost.
        """
        return self._daemons is None or self._daemons.answer()

    def last_words(self) -> str:
        """Return the last fatal message of a worker's native code; empty if there is none."""
        return "" if self._session is None else self._session.last_words()

    def offers(self) -> list[Offer]:
        """Return the resources that each live node registered with Ray."""
        return [
            Offer(
                cpus=node["Resources"].get("CPU", 0.0),
                gpus=node["Resources"].get("GPU", 0.0),
                align=node["Resources"].get(ALIGN, 0.0),
            )
            for node in living_nodes()
        ]

    def _start_local(self) -> Session:
        try:
            session = self._session = Session()
            with _standard_error_closed(), session.entered():
                ray.init(
                    address="local",
                    include_dashboard=False,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                    object_store_memory=_store_bytes(),
                    _temp_dir=session.ray_folder,
                )
        except Exception as error:
            raise FatalError(f"Ray does not start: {one_line(error)}") from error
        _check_loopback()
        return session


def _check_loopback() -> None:
    """Check that the local cluster is not reachable from other machines.

    Raises:
        FatalError: it is, because Ray was imported before restyle could configure it.
    """
    address = living_nodes()[0]["NodeManagerAddress"]
    if not ipaddress.ip_address(address).is_loopback:
        raise FatalError(
            f"Ray would be open to other machines at {address}, because it was imported before "
            f"restyle could set it up; use a new process, or set {LOOPBACK_SWITCH}=0"
        )


def _store_bytes() -> int:
    """Return a quarter of the free shared memory in bytes, within the limits above."""
    free = shutil.disk_usage(_SHARED_MEMORY).free if _SHARED_MEMORY.is_dir() else 0
    return min(max(free // 4, _LEAST_STORE), _MOST_STORE)


def living_nodes() -> list[dict[str, Any]]:
    """Return Ray's description of each live node."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def _connect(address: str) -> str:
    """Connect to a cluster; return ``HOST:PORT`` of its head."""
    if "://" in address:
        raise SpecError(
            f"--address {address}: give HOST:PORT of the cluster's head (port 6379 unless it was "
            "chosen), or auto on a machine of the cluster; restyle submit works from elsewhere"
        )
    head = _head_of(address)
    passed = SAFE_PATH | {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIX)
    }
    try:
        # Workers import from the working directory, so it must be writable to root alone.
        with _standard_error_closed(), working_in("/"):
            ray.init(
                address=head,
                logging_level=logging.ERROR,
                log_to_driver=False,
                runtime_env={"env_vars": passed},
            )
    except Exception as error:
        raise FatalError(f"no Ray cluster answers at {address}: {one_line(error)}") from error
    return head


def _head_of(address: str) -> str:
    """Return ``HOST:PORT`` of a responding head; Ray itself would retry for minutes.

    Raises:
        FatalError: no cluster responds at the address.
    """
    try:
        head: str | None = ray._private.services.canonicalize_bootstrap_address(address)
        if head is None:
            raise ConnectionError("no cluster runs on this machine")
        host, _, port = head.rpartition(":")
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, ValueError) as error:
        raise FatalError(f"no Ray cluster answers at {address}: {reason_of(error)}") from error
    return head


@contextlib.contextmanager
def _standard_error_closed() -> Iterator[None]:
    """Suppress the log-level message of Ray's native code; errors are raised as exceptions."""
    sys.stderr.flush()
    saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
