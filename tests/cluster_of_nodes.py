"""A Ray cluster of several nodes on this machine, each of which can be lost in an instant.

Every node is a raylet of its own with its own workers, object store and agents; only address and
disk are shared. A node dies as a machine does whose power fails: all of its processes are ended
with SIGKILL, at once, and nobody is told. The cluster ends with the process that made it, however
that ends, because the kernel ends a raylet with its parent and all else ends with its raylet.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

# Before Ray is imported, which reads them once.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
# Workers 15 steps less important than all else would not get on on a machine that is busy.
os.environ.setdefault("RAY_worker_niceness", "0")

import ray
from ray.cluster_utils import Cluster

_STORE = 80 * 2**20

_NODE: dict[str, Any] = {
    "object_store_memory": _STORE,
    "include_log_monitor": False,
}

# A dead node, which refuses connections, is noticed after two or three seconds instead of fifteen;
# one that is only slow to answer keeps its time.
_SYSTEM = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "enable_worker_prestart": False,
    "prestart_worker_first_driver": False,
    # Ten seconds otherwise.
    "metrics_report_interval_ms": 500,
}

_PATIENCE = 300.0


class ClusterOfNodes:
    """A head without CPUs, which only directs, and small nodes that work. Used as a context.

    Args:
        nodes: how many work.
    """

    def __init__(self, nodes: int = 3) -> None:
        # Short, because the paths of Unix sockets inside may have no more than 107 characters.
        self._folder = tempfile.mkdtemp(prefix="nodes-", dir="/tmp")
        # Ray reports every agent of a dead node.
        self._level = logging.getLogger("ray").level
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        head = {
            **_NODE,
            "num_cpus": 0,
            "temp_dir": self._folder,
            "include_dashboard": False,
            "_system_config": _SYSTEM,
        }
        with self._notes_in_its_folder():
            self._cluster = Cluster(initialize_head=True, head_node_args=head)
        self.nodes: list[Any] = []
        with contextlib.ExitStack() as unless_complete:
            unless_complete.callback(self.close)
            self.add(nodes)
            unless_complete.pop_all()

    def __enter__(self) -> ClusterOfNodes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def address(self) -> str:
        """What ``--address`` takes."""
        return str(self._cluster.address)

    def add(
        self,
        count: int = 1,
        *,
        resources: dict[str, float] | None = None,
        cpus: int = 1,
        gpus: int = 0,
        wait: bool = True,
    ) -> None:
        """Let new nodes join.

        Args:
            count: how many.
            resources: further ones of each.
            cpus: of each in Ray's books.
            gpus: the same.
            wait: until the cluster counts on them.
        """
        for _ in range(count):
            # They come up at the same time.
            node = self._cluster.add_node(
                wait=False,
                num_cpus=cpus,
                num_gpus=gpus,
                resources=dict(resources or {}),
                **_NODE,
            )
            self.nodes.append(node)
        if wait:
            self.wait_for(len(self.nodes))

    def kill(self, node: Any) -> None:
        """End a node with everything on it, and without a word to the others."""
        self.nodes.remove(node)
        self._end(node)

    def _end(self, node: Any) -> None:
        doomed: dict[int, psutil.Process] = {}
        # All are stopped first, the raylet before the others, so that none sees another die and
        # has time to react, and none starts a process that is overlooked.
        while new := [each for each in processes_of(node) if each.pid not in doomed]:
            for process in new:
                doomed[process.pid] = process
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.suspend()
        for process in doomed.values():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        # Collects the dead raylet and forgets the node.
        self._cluster.remove_node(node, allow_graceful=False)

    def wait_for(self, count: int) -> None:
        """Wait until the cluster counts on so many working nodes, dead ones being noticed."""
        deadline = time.monotonic() + _PATIENCE
        while len(self._cluster.global_state._live_node_ids()) != count + 1:
            if time.monotonic() > deadline:
                raise TimeoutError(f"there are not {count} nodes after {_PATIENCE:g} s")
            time.sleep(0.05)

    @contextlib.contextmanager
    def _notes_in_its_folder(self) -> Iterator[None]:
        """Ray notes the newest cluster of a machine in a place for all, for ``--address auto``.

        It must be there, and whoever uses this machine besides wants no other cluster noted.
        """
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RAY_TMPDIR", self._folder)
            Path(self._folder, "ray").mkdir()
            yield

    def measures(self, prefix: str) -> dict[str, list[tuple[dict[str, str], float]]]:
        """What the nodes offer to Prometheus: labels and values by name.

        Args:
            prefix: how the names begin.
        """
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for node in self._cluster.list_all_nodes():
            address = f"http://{node.node_ip_address}:{node.metrics_export_port}/metrics"
            # A node's agent comes up after it.
            with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=10) as page:
                for family in text_string_to_metric_families(page.read().decode()):
                    for sample in family.samples:
                        if sample.name.startswith(prefix):
                            found.setdefault(sample.name, []).append((sample.labels, sample.value))
        return found

    def processes(self) -> Iterator[psutil.Process]:
        """Everything that runs on the nodes, workers and their children among it."""
        for node in list(self.nodes):
            yield from processes_of(node)

    def close(self) -> None:
        """End all nodes and remove what they leave."""
        for node in list(self.nodes):
            self.kill(node)
        self._end(self._cluster.head_node)
        # Its hooks for the end of this process would find nothing left to end.
        ray.shutdown()
        logging.getLogger("ray").setLevel(self._level)
        shutil.rmtree(self._folder, ignore_errors=True)


def processes_of(node: Any) -> list[psutil.Process]:
    """The raylet that makes a node one, its workers, their children, and Ray's own agents."""
    found = []
    for info in node.all_processes.get("raylet", []):
        with contextlib.suppress(psutil.NoSuchProcess):
            raylet = psutil.Process(info.process.pid)
            found += [raylet, *raylet.children(recursive=True)]
    return found
