"""``invert_images``: run or continue an inversion."""

from __future__ import annotations

from restyle.pipeline.execution.executor import Engine
from restyle.pipeline.execution.request import Outcome, Request
from restyle.pipeline.execution.run import conduct
from restyle.pipeline.inversion.task import InversionTask
from restyle.pipeline.listener import Listener


def invert_images(
    request: Request, listener: Listener | None = None, engine: Engine | None = None
) -> Outcome:
    """Run a job, or continue an earlier run of it.

    Args:
        request: the job.
        listener: receives progress.
        engine: executor of units; chosen by ``request.workers`` and the number of images when None.

    Returns:
        The outcome of the run.

    Raises:
        FatalError: the job cannot continue. Committed units stay; without any, and without logs
            of what failed, the output is left unchanged.
        Interrupted: Ctrl-C.
    """
    return conduct(
        lambda: InversionTask.of(request),
        listener or Listener(),
        engine,
        request.monitoring,
        request.out,
    )
