"""The pools of a real cluster, whose nodes have different sizes: what Ray makes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import ray

from restyle.pipeline.execution.pools import Offer, Pool, cluster_pools
from restyle.pipeline.execution.ray.cluster import living_nodes
from restyle.pipeline.execution.request import Workers
from tests.cluster_of_nodes import ClusterOfNodes

PATIENCE = 120.0


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[dict[str, float]]]:
    """A node with three cores, one with two and a GPU in Ray's books, and the head."""
    with ClusterOfNodes(0) as cluster:
        cluster.add(cpus=3, wait=False)
        cluster.add(cpus=2, gpus=1)
        ray.init(address=cluster.address, log_to_driver=False)
        try:
            yield [node["Resources"] for node in living_nodes()]
        finally:
            ray.shutdown()


@ray.remote
class Actor:
    def node(self) -> str:
        return ray.get_runtime_context().get_node_id()


def placed(pool: Pool, count: int) -> list[object]:
    options = {"num_cpus": pool.cpus, "num_gpus": pool.gpus, "resources": pool.resources}
    return [Actor.options(**options).remote() for _ in range(count)]


def test_all_actors_of_both_pools_find_room_and_the_gpu_keeps_a_core(
    nodes: list[dict[str, float]],
) -> None:
    offers = [Offer(cpus=each.get("CPU", 0.0), gpus=each.get("GPU", 0.0)) for each in nodes]
    pools = cluster_pools(offers, Workers(), "cuda")
    assert pools.align is not None
    assert (pools.align.most, pools.compute.most) == (4, 1)
    # The aligners first, as Ray Data starts them: they must leave room for inversion.
    aligners, inverters = placed(pools.align, 4), placed(pools.compute, 1)
    at = Counter(ray.get([each.node.remote() for each in aligners], timeout=PATIENCE))  # type: ignore[attr-defined]
    (with_gpu,) = ray.get([each.node.remote() for each in inverters], timeout=PATIENCE)  # type: ignore[attr-defined]
    (gpu_node,) = [node["NodeID"] for node in living_nodes() if node["Resources"].get("GPU", 0.0)]
    assert with_gpu == gpu_node
    assert sum(at.values()) == 4
    # No node has more than its cores, and of all five one is left for what feeds the GPU.
    cores = {node["NodeID"]: node["Resources"].get("CPU", 0.0) for node in living_nodes()}
    assert all(count <= cores[node] for node, count in at.items())
    assert sum(cores.values()) - sum(at.values()) == pools.compute.most
