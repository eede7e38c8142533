"""The Ray Data graph: units pass the stages of a job, each stage a pool of actors.

Ray moves *blocks*: blocks of one row, which is one unit, so that no block is ever split or
merged. Failures travel in blocks too; an exception would cost Ray's retries and say less.
The last stage writes its own units, because their images would otherwise cross the object
store and a third kind of process would have to be started.

Workers and nodes may die at any moment. Ray restarts the actors and repeats what they were at, a
bounded number of times; a unit that still has no receipt is the next round's. Whatever hangs is
ended by the watchdog.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.experimental import internal_kv

from restyle.pipeline.execution.block import payload_of, to_block, unit_of
from restyle.pipeline.execution.job import Job, Receipt, StageSpec
from restyle.pipeline.execution.pools import Pool, Pools, cluster_pools, local_pools, unplaced
from restyle.pipeline.execution.ray.cluster import Cluster
from restyle.pipeline.execution.ray.messages import Messages
from restyle.pipeline.execution.ray.results import Receipts
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.watchdog import Heart, Stalled, Watchdog
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import open_storage

# Actors that die while they start, one after another, before a round ends.
_STILLBORN = 5

_HEARTS = b"restyle"


class Graph:
    """Builds and runs the graph, once for each round.

    Args:
        cluster: that is running.
        workers: what the user asked for.
        listener: is told what a person should know about the actors.
        messages: of Ray, for a file in the output.
    """

    def __init__(
        self,
        cluster: Cluster,
        workers: Workers,
        listener: Listener,
        messages: Messages | None = None,
    ) -> None:
        self._cluster = cluster
        self._workers = workers
        self._listener = listener
        self._messages = messages or Messages()
        self._noted = ""

    def run_units(self, job: Job, units: Sequence[UnitRef]) -> Iterator[Receipt]:
        """Run units, in any order. Units whose worker died may have no receipt.

        Args:
            job: what the workers need to know.
            units: pending ones.

        Yields:
            A receipt as soon as a unit is committed or has failed.

        Raises:
            FatalError: no node has room for a stage.
            Stalled: something hangs; units without an entry can be run again.
        """
        # After a round that hung, the connection was given up.
        if self._cluster.is_lost():
            self._cluster.stop()
        self._cluster.start()
        _set_up()
        self._messages.storage = open_storage(job.out)
        pools = self._pools(job).of(job.stages)
        run = uuid.uuid4().hex
        watchdog = Watchdog(
            tuple(pools),
            lambda: _told(run),
            lambda: unplaced(pools, self._cluster.offers()),
            self._cluster.last_words,
        )

        def look() -> None:
            if self._cluster.answers():
                watchdog.look()

        with contextlib.ExitStack() as at_end:
            at_end.callback(self._messages.write)
            at_end.callback(self._forget, run)
            receipts = Receipts(_dataset(job, units, pools, run))
            at_end.callback(receipts.close)
            try:
                for receipt in receipts.until_done(look):
                    watchdog.progressed()
                    yield receipt
            except Stalled:
                if not self._cluster.is_lost():
                    receipts.close()
                # Nothing of Ray's is trusted any more.
                self._cluster.stop()
                raise

    def _forget(self, run: str) -> None:
        """Remove what the hearts of a run's workers told."""
        if ray.is_initialized() and not self._cluster.is_lost():
            with contextlib.suppress(Exception):
                internal_kv._internal_kv_del(f"{run}:", del_by_prefix=True, namespace=_HEARTS)

    def _pools(self, job: Job) -> Pools:
        offers = self._cluster.offers()
        if self._cluster.is_local:
            pools = local_pools(offers[0], self._local_workers(job), job.device, job.threads)
        else:
            pools = cluster_pools(offers, self._workers, job.device)
        if pools.note and pools.note != self._noted:
            self._noted = pools.note
            self._listener.noted(pools.note)
        return pools

    def _local_workers(self, job: Job) -> Workers:
        """What the user asked for, or as many actors as there are cores where each uses one."""
        is_serial = job.device == "cpu" and any(stage.is_serial for stage in job.stages)
        if not is_serial or self._workers.invert_actors is not None:
            return self._workers
        return replace(self._workers, invert_actors=(1, job.threads))


def _dataset(
    job: Job,
    units: Sequence[UnitRef],
    pools: Mapping[str, Pool],
    run: str,
) -> Any:
    images = sum(unit.images for unit in units)
    blocks = ray.data.from_blocks([to_block(unit.name, unit) for unit in units])
    for stage in job.stages:
        pool = pools[stage.name]
        threads = pool.threads and min(pool.threads, images)
        blocks = blocks.map_batches(
            _actor(stage),
            fn_constructor_args=(job, run, stage, threads),
            batch_size=1,
            compute=_strategy(pool, stage.together, len(units)),
            batch_format="pyarrow",
            num_cpus=pool.cpus,
            num_gpus=pool.gpus,
            resources=pool.resources,
        )
    return blocks


def _strategy(pool: Pool, together: int, units: int) -> ray.data.ActorPoolStrategy:
    return ray.data.ActorPoolStrategy(
        min_size=pool.smallest,
        max_size=pool.most,
        initial_size=max(pool.smallest, min(pool.most, units)),
        # One more waits at the actor while these are in work.
        max_tasks_in_flight_per_actor=together + 1,
        max_concurrent_calls_per_actor=together,
        enable_true_multi_threading=True,
    )


class _StageActor:
    """A stage as Ray calls it."""

    def __init__(self, job: Job, run: str, stage: StageSpec, threads: int | None) -> None:
        self._heart = _heart(run, stage.name)
        with self._heart.at_work():
            self._stage = stage.start(job, threads, self._heart.stepped)
        # A unit's objects make the collector run; torch's need not be looked through each time.
        gc.freeze()

    def __call__(self, block: pa.Table) -> pa.Table:
        with self._heart.at_work():
            unit = payload_of(block)
            if isinstance(unit, Receipt):
                # It failed in an earlier stage.
                return block
            return to_block(unit_of(block), self._stage(unit))


def _actor(stage: StageSpec) -> type[_StageActor]:
    """A class of its own for each stage, whose name is that of its processes."""
    return type(f"_{stage.start.__name__}Actor", (_StageActor,), {})


def _heart(run: str, stage: str) -> Heart:
    key = f"{run}:{stage}:{uuid.uuid4().hex}"

    def tell(state: bytes) -> None:
        internal_kv._internal_kv_put(key, state, True, namespace=_HEARTS)

    return Heart(tell)


def _told(run: str) -> dict[str, bytes]:
    """What the hearts of a run's workers told last, by ``stage:worker``."""
    keys = internal_kv._internal_kv_list(f"{run}:", namespace=_HEARTS)
    found = {}
    for key in keys:
        state = internal_kv._internal_kv_get(key, namespace=_HEARTS)
        if state is not None:
            found[key.decode().partition(":")[2]] = state
    return found


def _set_up() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = None
    # A worker would ask once a second how much memory it has, which takes 35 ms with a large model.
    context.memory_usage_poll_interval_s = None
    # A worker's death costs its unit a retry by the run, not the whole job.
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = _STILLBORN
    # A unit may take hours; the watchdog knows better.
    context.execution_no_progress_timeout_s = -1
    # More actors as soon as all that there are have their hands full.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="ray.data")
