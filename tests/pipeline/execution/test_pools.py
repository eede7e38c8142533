from __future__ import annotations

import itertools

import pytest

from restyle.pipeline.execution.job import StageSpec
from restyle.pipeline.execution.pools import Offer, Pool, cluster_pools, local_pools, unplaced
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.inversion.stages import AlignStage, InvertStage

HEAD = Offer()

INVERSION = (
    StageSpec("alignment", "align", AlignStage, 2),
    StageSpec("inversion", "compute", InvertStage, 4),
)


def placed(pools: list[tuple[Pool, int]], nodes: list[Offer]) -> bool:
    """Whether so many actors of each pool find room, tried in every order of the nodes."""
    asked = [pool for pool, count in pools for _ in range(count)]
    for order in itertools.permutations(nodes):
        cpus = [node.cpus for node in order]
        gpus = [node.gpus for node in order]
        align = [node.align for node in order]
        for pool in asked:
            for at in range(len(order)):
                needed = pool.resources.get("align", 0.0)
                if (
                    cpus[at] + 1e-9 >= pool.cpus
                    and gpus[at] + 1e-9 >= pool.gpus
                    and align[at] + 1e-9 >= needed
                ):
                    cpus[at] -= pool.cpus
                    gpus[at] -= pool.gpus
                    align[at] -= needed
                    break
            else:
                return False
    return True


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("cpus", [1, 2, 3])
def test_without_gpus_all_actors_fit_when_a_node_is_lost(count: int, cpus: int) -> None:
    nodes = [Offer(cpus=cpus)] * count
    pools = cluster_pools([HEAD, *nodes], Workers(), "cpu")
    left = nodes[1:] or nodes
    assert placed([(pools.align, pools.align.most), (pools.compute, pools.compute.most)], left)
    # And in the worse order, inversion last, which must not find all places taken.
    assert placed([(pools.compute, pools.compute.most), (pools.align, pools.align.most)], left)
    assert (pools.align.smallest, pools.compute.smallest) == (1, 1)


def test_the_largest_node_may_be_the_one_that_is_lost() -> None:
    nodes = [Offer(cpus=8), Offer(cpus=1)]
    pools = cluster_pools(nodes, Workers(), "cpu")
    assert placed([(pools.align, pools.align.most), (pools.compute, pools.compute.most)], nodes[1:])


def test_a_larger_cluster_is_used() -> None:
    pools = cluster_pools([HEAD, *[Offer(cpus=16)] * 4], Workers(), "cpu")
    assert pools.compute.most == 4
    assert pools.align.most == 64


def test_alignment_goes_to_its_nodes_and_inversion_to_gpus() -> None:
    aligning, inverting = Offer(cpus=16, align=16), Offer(gpus=4)
    nodes = [HEAD, aligning, aligning, inverting]
    pools = cluster_pools(nodes, Workers(), "cuda")
    assert (pools.align.most, pools.compute.most, pools.note) == (32, 4, "")
    assert [pools.align.fits(node) for node in nodes] == [False, True, True, False]
    assert [pools.compute.fits(node) for node in nodes] == [False, False, False, True]
    assert (pools.align.threads, pools.compute.threads) == (1, None)


def test_without_the_resource_alignment_goes_to_cpus_and_says_so() -> None:
    nodes = [Offer(cpus=4), Offer(cpus=4, gpus=1)]
    pools = cluster_pools(nodes, Workers(gpus_per_actor=0.5), "cuda")
    # Each of the two inversion actors keeps a core.
    assert (pools.align.most, pools.align.resources) == (6, {})
    assert (pools.compute.most, pools.compute.gpus, pools.compute.cpus) == (2, 0.5, 0.0)
    assert "align" in pools.note


@pytest.mark.parametrize(
    ("nodes", "most"),
    [
        ([Offer(cpus=16, gpus=1)], 15),
        ([Offer(cpus=2, gpus=1), Offer(cpus=8)], 9),
        ([Offer(cpus=8, gpus=8), Offer(cpus=4)], 4),
        ([Offer(cpus=1, gpus=1)], 1),
    ],
)
def test_alignment_takes_the_cores_that_no_gpu_needs(nodes: list[Offer], most: int) -> None:
    pools = cluster_pools([HEAD, *nodes], Workers(), "cuda")
    assert (pools.align.smallest, pools.align.most) == (1, most)


def test_a_cluster_that_has_yet_to_grow() -> None:
    pools = cluster_pools([HEAD], Workers(), "cuda")
    assert (pools.align.smallest, pools.align.most) == (1, 16)
    assert (pools.compute.smallest, pools.compute.most) == (1, 1)
    assert "has to grow" in pools.note
    needed = pools.of(INVERSION)
    assert unplaced(needed, [HEAD]) == "alignment needs 1 CPU, which no node of the cluster offers"
    assert unplaced(needed, [HEAD, Offer(cpus=16, align=16)]) == (
        "inversion needs 1 GPU, which no node of the cluster offers"
    )
    assert unplaced(needed, [HEAD, Offer(cpus=16, align=16), Offer(gpus=1)]) == ""


def test_the_user_has_the_last_word() -> None:
    workers = Workers("auto", (2, 5), (3, 7), 2.0)
    pools = cluster_pools([Offer(cpus=2), Offer(gpus=4)], workers, "cuda")
    assert (pools.align.smallest, pools.align.most) == (2, 5)
    assert (pools.compute.smallest, pools.compute.most, pools.compute.gpus) == (3, 7, 2.0)
    pools = local_pools(Offer(cpus=2), Workers(None, (1, 3), (2, 2)), "cpu", 6)
    assert (pools.align.smallest, pools.align.most, pools.align.threads) == (1, 3, 2)
    assert (pools.compute.smallest, pools.compute.most, pools.compute.threads) == (2, 2, 3)


@pytest.mark.parametrize("workers", [Workers(), Workers(None, (1, 3), (2, 2))])
def test_on_this_machine_everything_fits_on_one_core(workers: Workers) -> None:
    node = Offer(cpus=1)
    pools = local_pools(node, workers, "cpu", 2)
    assert placed([(pools.align, pools.align.most), (pools.compute, pools.compute.most)], [node])


@pytest.mark.parametrize(("device", "gpus", "most"), [("cuda", 1.0, 4), ("cuda:1", 0.0, 1)])
def test_gpus_of_this_machine(device: str, gpus: float, most: int) -> None:
    pools = local_pools(Offer(cpus=16, gpus=4), Workers(), device, 16)
    assert (pools.compute.gpus, pools.compute.most) == (gpus, most)
    assert pools.align.threads == 16


def test_what_is_wanted_in_words() -> None:
    pool = Pool(1, 1, cpus=0.4, gpus=0.5, resources={"align": 1.0})
    assert unplaced({"alignment": pool}, []).startswith(
        "alignment needs 0.4 CPU and 0.5 GPU and 1 "
    )
