"""The Ray Data graph: units pass the stages of a job, each stage a pool of actors.

Ray moves *blocks* of one row, which is one unit, so that no block is ever split or merged.
Failures are sent in blocks too, because Ray would retry after an exception. The last stage writes
the units itself, so that their images do not pass through the object store.

Workers and nodes may die at any moment. Ray restarts the actors and repeats their units a bounded
number of times; units that still have no result are run in the next round. The watchdog ends a run
that hangs.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray
import ray.data
from ray.experimental import internal_kv

from restyle.pipeline.execution.block import payload_of, to_block, unit_of
from restyle.pipeline.execution.job import Job, StageSpec, UnitResult
from restyle.pipeline.execution.pools import Pool, Pools, cluster_pools, local_pools, unplaced
from restyle.pipeline.execution.ray.cluster import Cluster
from restyle.pipeline.execution.ray.messages import Messages
from restyle.pipeline.execution.ray.results import UnitResults
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.watchdog import Heartbeat, Watchdog
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Listener
from restyle.pipeline.storage.filesystem import open_storage

# Number of actors that die during their start, one after another, at which a round ends.
_MAX_FAILED_STARTS = 5

# Seconds between two looks at the workers. At a local cluster they cost little, and show soon that
# it is lost; the head of another one serves many runs.
_LOCAL_LOOK_SECONDS, _LOOK_SECONDS = 1.0, 5.0

_NAMESPACE = b"restyle"


class Graph:
    """Builds and runs the graph, once for each round.

    Args:
        cluster: the running cluster.
        workers: requested by the user.
        listener: receives notes about the actors.
        messages: collects the messages of Ray for a file in the output.
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

    def run_units(self, job: Job, units: Sequence[UnitRef]) -> Iterator[UnitResult]:
        """Run units. Units whose worker died may have no result.

        Args:
            job: parameters of the workers.
            units: pending units.

        Yields:
            The result of each unit when it is committed or has failed, in any order.

        Raises:
            FatalError: no node has room for a stage.
            Stalled: the workers make no progress; units without an entry can be run again.
        """
        _set_up()
        self._messages.storage = open_storage(job.out)
        pools = self._pools(job).of(job.stages)
        run = uuid.uuid4().hex
        watchdog = Watchdog(
            tuple(pools),
            lambda: _heartbeats(run),
            lambda: unplaced(pools, self._cluster.offers()),
            self._cluster.last_words,
            _has_ended if self._cluster.is_local else lambda _: False,
        )

        def tell() -> None:
            for stage, working in watchdog.working().items():
                self._listener.occupied(stage, working, None)

        def look() -> None:
            if self._cluster.answers():
                watchdog.look()
                tell()

        tell()

        with contextlib.ExitStack() as at_end:
            at_end.callback(self._messages.write)
            at_end.callback(self._forget, run)
            results = UnitResults(_dataset(job, units, pools, run))
            at_end.callback(results.close)
            every = _LOCAL_LOOK_SECONDS if self._cluster.is_local else _LOOK_SECONDS
            try:
                for result in results.until_done(look, every):
                    watchdog.progressed()
                    yield result
            except Exception:
                # The state of Ray is unknown: a further call could hang.
                at_end.pop_all()
                self._messages.write()
                raise

    def _forget(self, run: str) -> None:
        """Remove the heartbeats of a run's workers."""
        with contextlib.suppress(Exception):
            internal_kv._internal_kv_del(f"{run}:", del_by_prefix=True, namespace=_NAMESPACE)

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
        """Return the requested workers, with one actor per core where each uses one core."""
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
        # One more unit waits at the actor.
        max_tasks_in_flight_per_actor=together + 1,
        max_concurrent_calls_per_actor=together,
        enable_true_multi_threading=True,
    )


class _StageActor:
    """Ray actor of a stage."""

    def __init__(self, job: Job, run: str, stage: StageSpec, threads: int | None) -> None:
        self._heartbeat = _heartbeat(run, stage.name)
        with self._heartbeat.at_work():
            self._stage = stage.start(job, threads, self._heartbeat.stepped)
        # Objects of torch and the model are excluded from garbage collection.
        gc.freeze()

    def __call__(self, block: pa.Table) -> pa.Table:
        with self._heartbeat.at_work():
            unit = payload_of(block)
            if isinstance(unit, UnitResult):
                # The unit failed in an earlier stage.
                return block
            return to_block(unit_of(block), self._stage(unit))


def _actor(stage: StageSpec) -> type[_StageActor]:
    """Return an actor class for a stage; Ray names the worker's process after the class."""
    return type(f"_{stage.start.__name__}Actor", (_StageActor,), {})


def _heartbeat(run: str, stage: str) -> Heartbeat:
    key = f"{run}:{stage}:{os.getpid()}-{uuid.uuid4().hex}"

    def tell(state: bytes) -> None:
        internal_kv._internal_kv_put(key, state, True, namespace=_NAMESPACE)

    return Heartbeat(tell)


def _has_ended(worker: str) -> bool:
    """Return whether the process of a worker on this machine, ``stage:pid-digits``, has ended."""
    pid = worker.rpartition(":")[2].partition("-")[0]
    return not Path("/proc", pid).exists()


def _heartbeats(run: str) -> dict[str, bytes]:
    """Return the last heartbeat of each of a run's workers by ``stage:worker``."""
    keys = internal_kv._internal_kv_list(f"{run}:", namespace=_NAMESPACE)
    found = {}
    for key in keys:
        state = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
        if state is not None:
            found[key.decode().partition(":")[2]] = state
    return found


def _set_up() -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.target_max_block_size = None
    # The poll of a worker's memory, once a second, takes 35 ms with a large model.
    context.memory_usage_poll_interval_s = None
    # After a worker's death its unit is retried in the next round; the dataset continues.
    context.max_errored_blocks = -1
    context.max_consecutive_actor_init_deaths = _MAX_FAILED_STARTS
    # A unit may take hours; progress is checked by the watchdog.
    context.execution_no_progress_timeout_s = -1
    # Actors are added when all existing ones are busy.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    warnings.filterwarnings("ignore", module="ray.data")
