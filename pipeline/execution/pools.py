"""Number of actors of each stage and the resources that each reserves; without Ray and torch.

The resources only determine on which node an actor fits. The minimum of both stages together must
fit on what is left when the largest node is lost, since the run could not continue otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from restyle.pipeline.execution.job import StageSpec
from restyle.pipeline.execution.request import Workers

# CPUs that an actor reserves where both stages share the cores: two actors fit on one core, since
# the work is done in threads and child processes that the system schedules.
_SHARE = 0.4

WAITING = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "10000"}
"""Environment variables of a process that inverts, read when torch is imported. Alignment shares
the cores with inversion, whose idle threads must not spin on them for long. They spin during the
pauses between two operators, since waking threads is slower."""

# Most alignment actors on a cluster that has no node for them yet and may grow.
_FROM_NOTHING = 16

ALIGN = "align"
"""Custom Ray resource that marks nodes for alignment, with an amount of one per core."""


@dataclass(frozen=True)
class Offer:
    """Resources that a node has according to Ray.

    Attributes:
        cpus: number of cores.
        gpus: number of GPUs.
        align: amount of the resource :data:`ALIGN`.
    """

    cpus: float = 0.0
    gpus: float = 0.0
    align: float = 0.0


@dataclass(frozen=True)
class Pool:
    """The actors of one stage.

    Attributes:
        smallest: minimum number of actors.
        most: maximum number of actors.
        cpus: CPUs that each actor reserves.
        gpus: GPUs that each actor reserves.
        resources: custom resources that each actor reserves.
        threads: cores that each actor uses; None for all of its node.
    """

    smallest: int
    most: int
    cpus: float = 0.0
    gpus: float = 0.0
    resources: dict[str, float] = field(default_factory=dict)
    threads: int | None = None

    def fits(self, node: Offer) -> bool:
        """Return whether one actor fits on a node without other actors."""
        return (
            node.cpus >= self.cpus
            and node.gpus >= self.gpus
            and node.align >= self.resources.get(ALIGN, 0.0)
        )

    def wants(self) -> str:
        """Describe the resources of one actor, as in ``1 CPU and 1 GPU``."""
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
        align: pool of stages without a model; None where they use ``compute``.
        compute: pool of stages with a model.
        note: note for the user; empty in most cases.
    """

    align: Pool | None
    compute: Pool
    note: str = ""

    def of(self, stages: Sequence[StageSpec]) -> dict[str, Pool]:
        """Return the pool of each stage by the stage's name."""
        pools = {"align": self.align or self.compute, "compute": self.compute}
        return {stage.name: pools[stage.pool] for stage in stages}


def unplaced(pools: Mapping[str, Pool], nodes: Sequence[Offer]) -> str:
    """Describe the first stage that fits on no node; empty when every stage fits."""
    for stage, pool in pools.items():
        if not any(pool.fits(node) for node in nodes):
            return f"{stage} needs {pool.wants()}, which no node of the cluster offers"
    return ""


def local_pools(node: Offer, workers: Workers, device: str, threads: int) -> Pools:
    """Return the pools of a cluster on this machine: few actors, since each costs time and memory.

    Args:
        node: resources of this machine.
        workers: requested by the user.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        threads: cores to use.
    """
    aligners = workers.align_actors or (1, 1)
    # Ray would renumber the GPUs, so that cuda:N would mean another one.
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
    """Return the pools of a cluster: alignment on CPU nodes, inversion on GPUs.

    Args:
        nodes: resources of all living nodes.
        workers: requested by the user.
        device: ``cpu`` or ``cuda``.
    """
    if device == "cpu":
        return _without_gpus(nodes, workers)
    gpus = _gpus(workers)
    places = sum(int(node.gpus / gpus) for node in nodes) if gpus else 1
    inverters = workers.invert_actors or (1, max(1, places))
    align, note = _aligners(nodes, workers, gpus)
    if not any(node.gpus for node in nodes):
        note = "; ".join(filter(None, [note, "no GPU is there yet, the cluster has to grow"]))
    return Pools(align, Pool(*inverters, gpus=gpus), note)


def _aligners(nodes: Sequence[Offer], workers: Workers, gpus: float) -> tuple[Pool, str]:
    """Return the alignment pool, one core per actor, and a note for the user.

    It begins with as many actors as it may have and units there are. Ray ends what is idle.
    """
    marked = sum(int(node.align) for node in nodes)
    free = sum(_free_cores(node, gpus) for node in nodes)
    least = 1 if any(node.cpus >= 1 for node in nodes) else _FROM_NOTHING
    aligners = workers.align_actors or (1, marked or free or least)
    if marked:
        return Pool(*aligners, cpus=1.0, resources={ALIGN: 1.0}, threads=1), ""
    note = ""
    if any(node.cpus and node.gpus for node in nodes):
        note = f'no node offers the resource "{ALIGN}": alignment may come to nodes with GPUs'
    return Pool(*aligners, cpus=1.0, threads=1), note


def _free_cores(node: Offer, gpus: float) -> int:
    """Cores of a node that are left when each of its inversion actors has one to feed its GPU."""
    inverters = int(node.gpus / gpus) if gpus else 0
    return max(0, int(node.cpus) - inverters)


def _without_gpus(nodes: Sequence[Offer], workers: Workers) -> Pools:
    """Return pools on CPUs whose reservations still fit after the loss of one node."""
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
