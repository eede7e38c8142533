"""Choice of the executor: this process, or Ray on this machine or a cluster."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

from restyle.core.errors import SpecError
from restyle.pipeline.execution.local import run_here
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.rounds import Execute
from restyle.pipeline.listener import Listener
from restyle.pipeline.monitoring.measures import Sample

Engine = Callable[[], AbstractContextManager[Execute]]
"""Context manager whose value runs units while the context is open."""

SMALL = 500
"""Most pictures of a job that ``auto`` runs in this process, since Ray takes seconds to start."""


def is_local(workers: Workers, pictures: int) -> bool:
    """Return whether the units of a run are run in this process.

    Args:
        workers: requested by the user.
        pictures: number of pictures to make.
    """
    if workers.executor == "auto":
        return workers.address is None and not workers.has_actors and pictures <= SMALL
    return workers.executor == "local"


def executor(
    workers: Workers,
    pictures: int,
    listener: Listener,
    samples: Callable[[], Sequence[Sample]] = tuple,
) -> AbstractContextManager[Execute]:
    """Choose the executor of a run.

    Args:
        workers: requested by the user.
        pictures: number of pictures to make.
        listener: receives notes about Ray's actors, and the number of units at each stage.
        samples: returns the run's measures, which a cluster publishes.

    Raises:
        SpecError: actors or a cluster are combined with the executor ``local``.
        FatalError: the cluster does not start or does not answer.
    """
    if is_local(workers, pictures):
        if workers.address is not None or workers.has_actors:
            raise SpecError(
                "--executor local runs in this process; leave out --address, --align-actors, "
                "--invert-actors and --gpus-per-actor"
            )
        return contextlib.nullcontext(functools.partial(run_here, listener=listener))
    # Imported here, because Ray's import is slow and local runs do not need it.
    from restyle.pipeline.execution.ray.engine import ray_engine

    return ray_engine(workers, listener, samples)
