"""Whole nodes of a cluster die while they work: the job goes on with those that are left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.cluster_of_nodes import ClusterOfNodes, processes_of
from tests.faults.running_job import Kind, RunningJob, check_complete, entries, make_images

IMAGES = 96
"""In units of eight: twelve units."""

OPTIONS = ["--no-align", "--metrics=none", "--reconstructions=none", "--dtype=fp32", "--device=cpu"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterOfNodes]:
    with ClusterOfNodes(3) as cluster:
        yield cluster


@pytest.fixture
def job(tmp_path: Path, tiny_model: Path, cluster: ClusterOfNodes) -> list[object]:
    make_images(tmp_path / "images", IMAGES)
    # Slow enough that units are pending whenever a node dies.
    return [
        *("invert", tmp_path / "images", "--out", tmp_path / "out", "--model", tiny_model),
        *(*OPTIONS, "--steps", 24, "--batch-size", 1, "--address", cluster.address),
    ]


def node_of(cluster: ClusterOfNodes, worker: psutil.Process) -> Any:
    for node in cluster.nodes:
        if worker.pid in {process.pid for process in processes_of(node)}:
            return node
    raise AssertionError(f"process {worker.pid} is on no node")


def kill_node_of(kind: Kind, running: RunningJob, cluster: ClusterOfNodes) -> dict[str, int]:
    """Kill the node where a kind of worker is busy; the entries that there were by then."""
    cluster.kill(node_of(cluster, running.busy(kind)))
    before = entries(running.out)
    assert len(before) < IMAGES // 8, "everything was done when the node was killed"
    assert running.process.poll() is None
    return before


def check(running: RunningJob, *earlier: dict[str, int]) -> None:
    code, printed, error = running.end()
    assert code == 0, error
    assert f"{IMAGES} of {IMAGES} accounted for" in printed
    check_complete(running.out, IMAGES)
    after = entries(running.out)
    for before in earlier:
        assert {name: after[name] for name in before} == before, "written again after the commit"


def test_a_node_is_lost_with_the_inversion_on_it(
    job: list[object], cluster: ClusterOfNodes
) -> None:
    with RunningJob(job, cluster.processes) as running:
        running.wait_for(lambda: entries(running.out), "the first entry")
        before = kill_node_of("invert", running, cluster)
        check(running, before)
    cluster.add()


def test_nodes_are_lost_one_after_the_other_and_replaced(
    job: list[object], cluster: ClusterOfNodes
) -> None:
    with RunningJob(job, cluster.processes) as running:
        running.wait_for(lambda: entries(running.out), "the first entry")
        first = kill_node_of("invert", running, cluster)
        cluster.add(wait=False)
        running.wait_for(lambda: entries(running.out).keys() - first.keys(), "work after the loss")
        second = kill_node_of("invert", running, cluster)
        cluster.add(wait=False)
        check(running, first, second)
