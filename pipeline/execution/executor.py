"""Where units are run: in this process, or by Ray on this machine or a cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager

from restyle.core.errors import SpecError
from restyle.pipeline.execution.local import run_here
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.execution.rounds import Execute
from restyle.pipeline.listener import Listener

Engine = Callable[[], AbstractContextManager[Execute]]
"""Gives what runs units, for as long as its context lasts."""

SMALL = 500
"""Pictures up to which a job is run in this process: Ray takes seconds to start."""


def is_local(workers: Workers, pictures: int) -> bool:
    """Whether the units of a run are run in this process.

    Args:
        workers: what the user asked for.
        pictures: that are to be made.
    """
    if workers.executor == "auto":
        return workers.address is None and not workers.has_actors and pictures <= SMALL
    return workers.executor == "local"


def executor(
    workers: Workers, pictures: int, listener: Listener
) -> AbstractContextManager[Execute]:
    """Choose where the units of a run are run.

    Args:
        workers: what the user asked for.
        pictures: that are to be made.
        listener: is told what a person should know about Ray's actors.

    Raises:
        SpecError: workers of a cluster are asked for in this process alone.
        FatalError: the cluster does not start, or is not there.
    """
    if is_local(workers, pictures):
        if workers.address is not None or workers.has_actors:
            raise SpecError(
                "--executor local runs in this process; leave out --address, --align-actors, "
                "--invert-actors and --gpus-per-actor"
            )
        return contextlib.nullcontext(run_here)
    # Here, because a run that needs no cluster need not wait for Ray's import.
    from restyle.pipeline.execution.ray.engine import ray_engine

    return ray_engine(workers, listener)
