"""Units on Ray: the cluster is started while the graph is imported."""

from __future__ import annotations

import contextlib
import importlib
import threading
from collections.abc import Callable, Iterator, Sequence

from restyle.pipeline.execution.job import Job, Receipt
from restyle.pipeline.execution.ray.environment import import_ray
from restyle.pipeline.execution.request import Workers
from restyle.pipeline.ledger.manifest import UnitRef
from restyle.pipeline.listener import Listener


@contextlib.contextmanager
def ray_engine(
    workers: Workers | None = None, listener: Listener | None = None
) -> Iterator[Callable[[Job, Sequence[UnitRef]], Iterator[Receipt]]]:
    """What runs units on Ray, for as long as the context lasts.

    Args:
        workers: where, and by how many.
        listener: is told what a person should know about the actors.

    Raises:
        FatalError: the cluster does not start, or is not there.
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
    """Whether a cluster has a node with a GPU now; the connection stays open for the run.

    Args:
        address: of the cluster.

    Raises:
        FatalError: it is not there.
    """
    import_ray()
    from restyle.pipeline.execution.ray.cluster import Cluster

    cluster = Cluster(address)
    cluster.start()
    return any(offer.gpus for offer in cluster.offers())
