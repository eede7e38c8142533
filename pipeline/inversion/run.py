"""``invert_images``: a job of inversion, or what an earlier run left of it."""

from __future__ import annotations

from restyle.pipeline.execution.executor import Engine
from restyle.pipeline.execution.request import Outcome, Request
from restyle.pipeline.execution.run import conduct
from restyle.pipeline.inversion.task import InversionTask
from restyle.pipeline.listener import Listener


def invert_images(
    request: Request, listener: Listener | None = None, engine: Engine | None = None
) -> Outcome:
    """Run a job, or what an earlier run left of it.

    Args:
        request: the job.
        listener: is told about progress.
        engine: gives what runs units; chosen by ``request.workers`` and their number when None.

    Returns:
        What came of it.

    Raises:
        FatalError: the job cannot go on. What is committed stays; when nothing is, the output
            is left as it was found.
        Interrupted: Ctrl-C.
    """
    return conduct(lambda: InversionTask.of(request), listener or Listener(), engine)
