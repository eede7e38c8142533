"""Start of a Ray cluster, in parallel with the import of the graph."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Sequence

from restyle.pipeline.execution.job import Job, UnitResult
from restyle.pipeline.execution.ray.environment import import_ray
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Listener


@contextlib.contextmanager
def ray_engine(
    workers: Workers | None = None, listener: Listener | None = None
) -> Iterator[Callable[[Job, Sequence[UnitRef]], Iterator[UnitResult]]]:
    """Context manager of a cluster, whose value runs units on it.

    Args:
        workers: cluster and number of actors.
        listener: receives notes about the actors.

    Raises:
        FatalError: the cluster does not start or does not answer.
    """
    asked = workers or Workers()
    import_ray()
    from restyle.pipeline.execution.ray.cluster import Cluster
    from restyle.pipeline.execution.ray.messages import Messages

    # The start is mostly waiting, the import mostly work.
    importing = threading.Thread(
        target=importlib.import_module, args=("restyle.pipeline.execution.ray.graph",)
    )
    importing.start()
    heard, messages = listener or Listener(), Messages()
    try:
        with messages.taken(heard), Cluster(asked.address) as cluster:
            importing.join()
            from restyle.pipeline.execution.ray.graph import Graph

            yield Graph(cluster, asked, heard, messages).run_units
    finally:
        importing.join()


def has_gpus(address: str) -> bool:
    """Return whether a cluster has a node with a GPU; the connection stays open for the run.

    Args:
        address: of the cluster.

    Raises:
        FatalError: the cluster does not answer.
    """
    import_ray()
    from restyle.pipeline.execution.ray.cluster import Cluster

    cluster = Cluster(address)
    cluster.start()
    return any(offer.gpus for offer in cluster.offers())
