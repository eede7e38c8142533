"""How many actors of which stage, and what each asks of a node; knows neither Ray nor torch.

Ray's books decide only what fits where. The rule behind all numbers: the fewest actors of both
stages together must fit on what is left when the largest node is lost, or nothing would ever start
again.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from restyle.pipeline.execution.job import StageSpec
from restyle.pipeline.execution.request import Workers

# What an actor of a stage reserves where both stages share the processors: two of them fit on one
# core, since the real work is in threads and child processes that the system shares out.
_SHARE = 0.4

# Most alignment actors on a cluster that has no node for them yet and may grow.
_FROM_NOTHING = 16

ALIGN = "align"
"""Ray's custom resource of nodes that are meant for alignment, one for each of their cores."""


@dataclass(frozen=True)
class Offer:
    """What a node offers in Ray's books.

    Attributes:
        cpus: cores.
        gpus: GPUs.
        align: of the resource :data:`ALIGN`.
    """

    cpus: float = 0.0
    gpus: float = 0.0
    align: float = 0.0


@dataclass(frozen=True)
class Pool:
    """The actors of one stage.

    Attributes:
        smallest: that are kept whatever happens.
        most: that there may be.
        cpus: that each reserves.
        gpus: that each reserves.
        resources: custom ones that each reserves.
        threads: cores that each works with; None for those of the node that it comes to.
    """

    smallest: int
    most: int
    cpus: float = 0.0
    gpus: float = 0.0
    resources: dict[str, float] = field(default_factory=dict)
    threads: int | None = None

    def fits(self, node: Offer) -> bool:
        """Whether a node has room for one, if it is empty."""
        return (
            node.cpus >= self.cpus
            and node.gpus >= self.gpus
            and node.align >= self.resources.get(ALIGN, 0.0)
        )

    def wants(self) -> str:
        """What one asks of a node, in words."""
        parts = [
            f"{amount:g} {name}"
            for name, amount in (("CPU", self.cpus), ("GPU", self.gpus), *self.resources.items())
            if amount
        ]
        return " and ".join(parts) or "nothing"


@dataclass(frozen=True)
class Pools:
    """The actors of a run.

    Attributes:
        align: of stages that need CPU cores alone; None where they share the others'.
        compute: of what computes with a model.
        note: what a person should know about them; mostly nothing.
    """

    align: Pool | None
    compute: Pool
    note: str = ""

    def of(self, stages: Sequence[StageSpec]) -> dict[str, Pool]:
        """The pool of each stage, by its name."""
        pools = {"align": self.align or self.compute, "compute": self.compute}
        return {stage.name: pools[stage.pool] for stage in stages}


def unplaced(pools: Mapping[str, Pool], nodes: Sequence[Offer]) -> str:
    """Which stage no node has room for, as a sentence; empty when there is none."""
    for stage, pool in pools.items():
        if not any(pool.fits(node) for node in nodes):
            return f"{stage} needs {pool.wants()}, which no node of the cluster offers"
    return ""


def local_pools(node: Offer, workers: Workers, device: str, threads: int) -> Pools:
    """Actors on this machine alone: few, since each costs seconds and memory.

    Args:
        node: this machine in Ray's books.
        workers: what the user asked for.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: cores to use.
    """
    aligners = workers.align_actors or (1, 1)
    # A numbered device is the user's own choice, which Ray's assignment must not renumber.
    gpus = _gpus(workers) if device == "cuda" else 0.0
    inverters = workers.invert_actors or (1, max(1, int(node.gpus / gpus)) if gpus else 1)
    return Pools(
        align=Pool(
            *aligners, cpus=_SHARE / aligners[1], threads=max(1, math.ceil(threads / aligners[1]))
        ),
        compute=Pool(
            *inverters,
            cpus=0.0 if gpus else _SHARE / inverters[1],
            gpus=gpus,
            threads=max(1, threads // inverters[1]),
        ),
    )


def cluster_pools(nodes: Sequence[Offer], workers: Workers, device: str) -> Pools:
    """Actors on a cluster: alignment on CPU nodes, inversion where the GPUs are.

    Args:
        nodes: all that are alive.
        workers: what the user asked for.
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        return _without_gpus(nodes, workers)
    gpus = _gpus(workers)
    places = sum(int(node.gpus / gpus) for node in nodes) if gpus else 1
    inverters = workers.invert_actors or (1, max(1, places))
    align, note = _aligners(nodes, workers)
    if not any(node.gpus for node in nodes):
        note = "; ".join(filter(None, [note, "no GPU is there yet, the cluster has to grow"]))
    return Pools(align, Pool(*inverters, gpus=gpus), note)


def _aligners(nodes: Sequence[Offer], workers: Workers) -> tuple[Pool, str]:
    """One core for each alignment actor, beside inversion that takes none."""
    marked = sum(int(node.align) for node in nodes)
    cores = sum(int(node.cpus) for node in nodes)
    aligners = workers.align_actors or (1, marked or cores or _FROM_NOTHING)
    if marked:
        return Pool(*aligners, cpus=1.0, resources={ALIGN: 1.0}, threads=1), ""
    note = ""
    if any(node.cpus and node.gpus for node in nodes):
        note = f'no node offers the resource "{ALIGN}": alignment may come to nodes with GPUs'
    return Pool(*aligners, cpus=1.0, threads=1), note


def _without_gpus(nodes: Sequence[Offer], workers: Workers) -> Pools:
    """Both stages on CPUs, so small in the books that one node's loss leaves room for all."""
    places = [int(node.cpus / _SHARE) for node in nodes if node.cpus >= _SHARE]
    lasting = sum(places) - (max(places) if len(places) > 1 else 0)
    inverters = workers.invert_actors or (1, max(1, min(len(places), lasting // 2)))
    cores = sum(int(node.cpus) for node in nodes)
    aligners = workers.align_actors or (1, max(1, min(cores, lasting - inverters[1])))
    resources = {ALIGN: _SHARE} if any(node.align >= _SHARE for node in nodes) else {}
    return Pools(
        align=Pool(*aligners, cpus=_SHARE, resources=resources, threads=1),
        compute=Pool(*inverters, cpus=_SHARE),
    )


def _gpus(workers: Workers) -> float:
    return 1.0 if workers.gpus_per_actor is None else workers.gpus_per_actor
